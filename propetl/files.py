"""Files that are whole or absent: hashes, atomic writes, and paths that stay inside their folder."""

import ctypes
import errno
import hashlib
import json
import os
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from math import isfinite
from pathlib import Path
from typing import Any

from propetl.errors import ConfigurationError, ProPETLError

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
    """The bytes of a file, with as few calls of the system as reading takes: a task's first answer waits for them."""
    with open(path, "rb", buffering=0) as stream:
        return stream.read()


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


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside ``path``, flushes to disk, then renames: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{_unique()}.partial")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    flush(path.parent)


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False, marker: str | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` in one rename when the block ends without an error.

    Args:
        target: where the result is to stand.
        overwrite: replace a folder that is there; without it such a folder is an error, raised before any
            work.
        marker: a file that a folder must hold to be replaced, so that a mistyped path costs nobody their
            files.

    Raises:
        ConfigurationError: ``target`` exists already, or its parent cannot be written.
    """
    target = Path(os.path.abspath(target))  # "." has no name to write beside
    _refuse_existing(target, overwrite, marker)
    staging = _make_staging(target)
    try:
        yield staging
        _sync_tree(staging)
        _refuse_existing(target, overwrite, marker)  # another process may have been faster
        _swap_in(staging, target)
    finally:
        _remove_tree(staging)


def _make_staging(target: Path) -> Path:
    staging = target.with_name(f".{target.name}.{_unique()}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    except PermissionError as error:
        raise ConfigurationError(f"cannot write {target}: no permission for {target.parent}") from error
    except (FileExistsError, NotADirectoryError) as error:
        reason = f"{target.parent} is not a folder; choose another path"
        raise ConfigurationError(f"cannot write {target}: {reason}") from error
    return staging


def _refuse_existing(target: Path, overwrite: bool, marker: str | None) -> None:
    if target.is_symlink() or target.is_file():
        raise ConfigurationError(f"cannot write {target}: a file or link is there; choose another path")
    if not target.exists() or not any(target.iterdir()):
        return
    if not overwrite:
        raise ConfigurationError(f"{target} exists already: choose another path, or replace it with --overwrite")
    if marker is not None and not (target / marker).is_file():
        raise ConfigurationError(
            f"{target} was not written by propetl (it has no {marker}), so --overwrite leaves it alone: "
            "choose another path, or remove it yourself"
        )


def _sync_tree(folder: Path) -> None:
    for path in (*sorted(folder.rglob("*")), folder):
        if path.is_dir():
            flush(path)
        elif path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _swap_in(staging: Path, target: Path) -> None:
    """Makes ``staging`` the folder at ``target``; what stood there ends at ``staging``, or is removed."""
    if not target.exists():
        os.replace(staging, target)
    elif not _exchanged(staging, target):
        _replace_by_way_of_aside(staging, target)
    flush(target.parent)


def _unique() -> str:
    """What makes a name beside another one's own; ``secrets`` would load a dozen modules where files are only read."""
    return os.urandom(4).hex()


def _remove_tree(folder: Path) -> None:
    import shutil  # here: with its compressors it takes milliseconds, and those who read files never need it

    shutil.rmtree(folder, ignore_errors=True)


def _exchanged(left: Path, right: Path) -> bool:
    """Whether the system could exchange the two in one step (Linux can): a kill finds one or the other."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(left), here, os.fsencode(right), exchange) == 0


def _replace_by_way_of_aside(staging: Path, target: Path) -> None:
    aside = target.with_name(f".{target.name}.{_unique()}.replaced")
    os.replace(target, aside)
    try:
        os.replace(staging, target)
    except BaseException:
        os.replace(aside, target)
        raise
    _remove_tree(aside)


def read_json(path: Path, what: str, error: type[ProPETLError]) -> Any:
    """The manifest at ``path``, not yet checked; ``what`` is what its folder should be, for messages.

    Args:
        path: the JSON file.
        what: such as ``bundle``.
        error: class of the error to raise.
    """
    try:
        return json.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError) as cause:
        raise error(f"{path.parent}: no {what} is there ({path.name} is missing)") from cause
    except PermissionError as cause:
        raise error(f"{path}: no permission to read it") from cause
    except OSError as cause:
        raise error(f"{path}: cannot be read ({cause.strerror})") from cause
    except (UnicodeDecodeError, json.JSONDecodeError, RecursionError) as cause:
        raise error(f"{path}: not valid JSON ({cause}); it was truncated or damaged") from cause


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


def verify_bytes(content: bytes, record: Any, root: Path, relative: str, error: type[ProPETLError]) -> None:
    """:func:`verify_files` for a file that was read already, and is used as it was read."""
    _check_size(len(content), record, str(root), relative, error)
    _check_hash(sha256_of_bytes(content), record, str(root), relative, error)


def _verify_file(path: Path, record: Any, root: str, relative: str, error: type[ProPETLError]) -> None:
    _check_size(path.stat().st_size, record, root, relative, error)
    _check_hash(sha256_of_file(path), record, root, relative, error)


def _check_size(found: int, record: Any, root: str, relative: str, error: type[ProPETLError]) -> None:
    if not isinstance(record, dict) or not {"bytes", "sha256"} <= record.keys():
        raise error(f"{root}: {relative} is listed in the manifest without size and SHA-256; restore it")
    if found != record["bytes"]:
        stated = f"its manifest says {record['bytes']}; it was truncated or replaced"
        raise error(f"{root}: {relative} has {found} bytes, {stated}")


def _check_hash(found: str, record: Any, root: str, relative: str, error: type[ProPETLError]) -> None:
    if found != record["sha256"]:
        reason = "is not the one in its manifest; the file was changed or damaged"
        raise error(f"{root}: {relative}: its SHA-256 {reason}")
