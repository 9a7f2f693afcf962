"""Files that are whole or absent: hashes, atomic writes, and paths that stay inside their folder."""

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable
from contextlib import suppress
from math import isfinite
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.errors import ConfigurationError, ProPETLError
from propetl.partial import create_file, remove_leftovers
from propetl.strict_json import parse_json

_LONGEST_NAME = 255  # bytes, on every file system in use

# A path that is no UTF-8 has lone surrogates in Python; escaped as backslash, u and four digits, they are JSON.
_ESCAPED = "backslashreplace"


def sha256_of_bytes(content: bytes) -> str:
    """Hex SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file, read piece by piece into one buffer."""
    with path.open("rb") as stream:
        return hashlib.file_digest(stream, "sha256").hexdigest()


def whole_file(path: str) -> bytes:
    """The bytes of a regular file, with few calls of the system: a task's first answer waits for them.

    Raises:
        OSError: it cannot be read; or it is a pipe or a device, which may have no end.
    """
    with open(path, "rb", buffering=0, opener=_without_waiting) as stream:
        if not stat.S_ISREG(os.fstat(stream.fileno()).st_mode):
            raise OSError(errno.EINVAL, "not a regular file", path)
        return stream.read()


def _without_waiting(path: str, flags: int) -> int:
    """Opened in the ordinary way, a pipe in a folder from elsewhere would wait for somebody who writes into it."""
    return os.open(path, flags | getattr(os, "O_NONBLOCK", 0))


def json_bytes(value: Any) -> bytes:
    """``value`` as the project writes JSON: UTF-8, two spaces, keys in the order given, a newline last."""
    return (json_text(value, indent=2) + "\n").encode("utf-8", _ESCAPED)


def json_line(value: Any) -> bytes:
    """``value`` as one line of a file of JSON lines."""
    return (json_text(value) + "\n").encode("utf-8", _ESCAPED)


def json_text(value: Any, indent: int | None = None, ascii_only: bool = False) -> str:
    """``value`` as JSON, which knows no number that is not finite: ``null`` stands for those."""
    try:
        return json.dumps(value, indent=indent, ensure_ascii=ascii_only, allow_nan=False)
    except ValueError:
        return json.dumps(_finite(value), indent=indent, ensure_ascii=ascii_only, allow_nan=False)


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {key: _finite(item) for key, item in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(item) for item in value]
    return None if isinstance(value, float) and not isfinite(value) else value


def file_record(path: Path) -> dict[str, Any]:
    """What a manifest says of one file: ``{"sha256": ..., "bytes": ...}``."""
    return {"sha256": sha256_of_file(path), "bytes": path.stat().st_size}


def folder_records(root: Path) -> dict[str, dict[str, Any]]:
    """Records of all files below ``root`` by relative path, sorted; hard links of one file are hashed once."""
    found: dict[tuple[int, int], dict[str, Any]] = {}
    records = {}
    for path in sorted(path for path in root.rglob("*") if path.is_file()):
        status = path.stat()
        identity = (status.st_dev, status.st_ino)
        if identity not in found:
            found[identity] = file_record(path)
        records[path.relative_to(root).as_posix()] = found[identity]
    return records


def record_of_bytes(content: bytes) -> dict[str, Any]:
    """:func:`file_record` of a file that holds ``content``."""
    return {"sha256": sha256_of_bytes(content), "bytes": len(content)}


def flush(path: Path) -> None:
    """Makes a file's bytes, or a folder's renames and new names, survive a power cut."""
    descriptor = os.open(path, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_folder(path: Path) -> None:
    """Makes ``path`` and the folders above it that are missing; their names survive a power cut."""
    missing = [folder for folder in (path, *path.parents) if not folder.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for folder in missing:
        flush(folder.parent)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside ``path``, flushes to disk, then renames: readers see the old file or the new one.

    A link is followed and stays a link; mode and owner of a file that is there stay as they are.

    Raises:
        ConfigurationError: a device, a pipe or a folder is there.
    """
    target = Path(os.path.realpath(path))
    there = _status(target)
    if there is not None and not stat.S_ISREG(there.st_mode):
        raise ConfigurationError(f"cannot write {path}: it is no regular file; choose another path")
    remove_leftovers(target)
    temporary, descriptor = create_file(target)
    try:
        with open(descriptor, "wb") as stream:
            if there is not None:
                keep_owner_and_mode(descriptor, there)
            stream.write(content)
            stream.flush()
            os.fsync(descriptor)
            os.replace(temporary, target)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(target.parent)


def _status(path: Path) -> os.stat_result | None:
    try:
        return path.stat()
    except FileNotFoundError:
        return None


def keep_owner_and_mode(made: int | Path, there: os.stat_result) -> None:
    """Gives ``made`` the owner and mode of what it is about to replace, as far as this user may."""
    with suppress(PermissionError):
        os.chown(made, there.st_uid, there.st_gid)
    os.chmod(made, stat.S_IMODE(there.st_mode))


def read_json(path: Path, what: str, error: type[ProPETLError]) -> Any:
    """The manifest at ``path``, not yet checked; ``what`` is what its folder should be, for messages.

    Args:
        path: the JSON file.
        what: such as ``bundle``.
        error: class of the error to raise.
    """
    try:
        return parse_json(whole_file(str(path)))
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise error(f"{path.parent}: no {what} is there ({path.name} is missing)") from cause
    except PermissionError as cause:
        raise error(f"{path}: no permission to read it") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from cause
    except ValueError as cause:
        raise error(f"{path}: not valid JSON ({cause}); it was truncated or damaged") from cause


def records_of(value: Any) -> dict[str, dict[str, Any]]:
    """The records of a manifest's files, by path.

    Raises:
        ValueError: a size or a SHA-256 is none, or is missing.
    """
    return fields.each(_record_of, value, "files")


def _record_of(value: Any, key: str) -> dict[str, Any]:
    found = fields.record(value, key, ("sha256", "bytes"))
    fields.text(found["sha256"], f"{key}.sha256")
    fields.whole(found["bytes"], f"{key}.bytes", largest=fields.MOST_BYTES)
    return found


def path_inside(root: Path, relative: str, error: type[ProPETLError]) -> Path:
    """``root / relative``, refused if it is absolute, climbs out of ``root``, or leaves it through a link.

    Args:
        root: folder that holds the manifest.
        relative: path as written in the manifest, with forward slashes.
        error: class of the error to raise.
    """
    check_paths_inside(root, (relative,), error)
    return root.joinpath(relative)


def check_paths_inside(root: Path, relatives: Iterable[str], error: type[ProPETLError]) -> None:
    """:func:`path_inside` for the files of a whole manifest: each folder among them is resolved once.

    Args:
        root: folder that holds the manifest.
        relatives: paths as written in the manifest.
        error: class of the error to raise.
    """
    inside: dict[str, bool] = {}
    for relative in relatives:
        if not _is_plain(relative):
            reason = "which is not a path inside the folder; do not use it"
            raise error(f"{root}: its manifest names {relative[:100]!r}, {reason}")
        path = os.path.join(root, relative)
        try:
            folder = path if os.path.islink(path) else os.path.dirname(path)
            if folder not in inside:
                inside[folder] = _leads_inside(folder, root)
        except OSError as cause:
            raise error(f"{root}: {relative!r} is a link that leads nowhere; do not use it") from cause
        if not inside[folder]:
            raise error(f"{root}: {relative!r} is a link that leaves the folder; do not use it")


def _leads_inside(folder: str, root: Path) -> bool:
    """Whether ``folder``, which may not exist, is ``root`` or below it once all links are followed.

    By strings, as it is asked for every file that is read: objects of paths would take as long as reading a small one.

    Raises:
        OSError: its links lead in a circle.
    """
    found, top = os.path.realpath(folder), os.path.realpath(root)
    try:
        os.stat(found)
    except OSError as error:
        if error.errno == errno.ELOOP:
            raise
    return os.path.commonpath((found, top)) == top


def _is_plain(relative: str) -> bool:
    """Whether the path has a name at its end, climbs nowhere, and means the same on every system."""
    parts = relative.split("/")
    if relative.startswith("/") or parts[-1] in ("", ".") or ".." in parts:
        return False
    if not relative.isprintable() or "\\" in relative or ":" in parts[0]:
        return False
    return all(len(part.encode()) <= _LONGEST_NAME for part in parts)


def verify_files(root: Path, records: dict[str, dict[str, Any]], error: type[ProPETLError]) -> None:
    """Checks that each file of ``records`` is there with the size and SHA-256 the manifest states."""
    for relative, record in records.items():
        path = path_inside(root, relative, error)
        try:
            if not path.is_file():
                raise error(f"{root}: {relative} is missing; restore the folder from its source")
            _verify_file(path, record, str(root), relative, error)
        except PermissionError as cause:
            raise error(f"{root}: no permission to read {relative}; change its permissions") from cause


def verify_bytes(content: bytes, record: dict[str, Any], root: Path, relative: str, error: type[ProPETLError]) -> None:
    """:func:`verify_files` for a file that was read already, and is used as it was read."""
    _check_size(len(content), record, str(root), relative, error)
    _check_hash(sha256_of_bytes(content), record, str(root), relative, error)


def _verify_file(path: Path, record: dict[str, Any], root: str, relative: str, error: type[ProPETLError]) -> None:
    _check_size(path.stat().st_size, record, root, relative, error)
    _check_hash(sha256_of_file(path), record, root, relative, error)


def _check_size(found: int, record: dict[str, Any], root: str, relative: str, error: type[ProPETLError]) -> None:
    if found != record["bytes"]:
        stated = f"its manifest says {record['bytes']}; it was truncated or replaced"
        raise error(f"{root}: {relative} has {found} bytes, {stated}")


def _check_hash(found: str, record: dict[str, Any], root: str, relative: str, error: type[ProPETLError]) -> None:
    if found != record["sha256"]:
        reason = "is not the one in its manifest; the file was changed or damaged"
        raise error(f"{root}: {relative}: its SHA-256 {reason}")
