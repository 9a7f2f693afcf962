"""Files that are whole or absent: hashes, atomic writes, and paths that stay inside their folder."""

import hashlib
import json
import os
import secrets
import shutil
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePosixPath
from typing import Any

from propetl.errors import ConfigurationError, ProPETLError

_CHUNK_BYTES = 1 << 20


def sha256_of_bytes(content: bytes) -> str:
    """Hex SHA-256 of ``content``."""
    return hashlib.sha256(content).hexdigest()


def sha256_of_file(path: Path) -> str:
    """Hex SHA-256 of a file, read in chunks of 1 MiB."""
    digest = hashlib.sha256()
    with path.open("rb") as stream:
        while chunk := stream.read(_CHUNK_BYTES):
            digest.update(chunk)
    return digest.hexdigest()


def json_bytes(value: Any) -> bytes:
    """``value`` as the project writes JSON: UTF-8, two spaces, keys in the order given, one newline at the end."""
    return (json.dumps(value, indent=2, ensure_ascii=False) + "\n").encode()


def file_record(path: Path) -> dict[str, Any]:
    """What a manifest says of one file: ``{"sha256": ..., "bytes": ...}``."""
    return {"sha256": sha256_of_file(path), "bytes": path.stat().st_size}


def fsync_folder(folder: Path) -> None:
    """Makes renames and new names in ``folder`` survive a power cut."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def write_atomically(path: Path, content: bytes) -> None:
    """Writes beside ``path``, flushes to disk, then renames: readers see the old file or the new one."""
    temporary = path.with_name(f".{path.name}.{secrets.token_hex(4)}.partial")
    try:
        with temporary.open("wb") as stream:
            stream.write(content)
            stream.flush()
            os.fsync(stream.fileno())
        os.replace(temporary, path)
    except BaseException:
        temporary.unlink(missing_ok=True)
        raise
    fsync_folder(path.parent)


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` in one rename when the block ends without an error.

    Args:
        target: where the result is to stand.
        overwrite: replace a folder that is there; without it such a folder is an error, raised before any work.

    Raises:
        ConfigurationError: ``target`` exists already, or its parent cannot be written.
    """
    _refuse_existing(target, overwrite)
    staging = target.with_name(f".{target.name}.{secrets.token_hex(4)}.partial")
    try:
        target.parent.mkdir(parents=True, exist_ok=True)
        staging.mkdir()
    except PermissionError as error:
        raise ConfigurationError(f"cannot write {target}: no permission for {target.parent}") from error
    try:
        yield staging
        _sync_tree(staging)
        _swap_in(staging, target)
    finally:
        shutil.rmtree(staging, ignore_errors=True)


def _refuse_existing(target: Path, overwrite: bool) -> None:
    if target.is_symlink() or target.is_file():
        raise ConfigurationError(f"cannot write a folder to {target}: a file or link is there; choose another path")
    if target.exists() and not overwrite and any(target.iterdir()):
        raise ConfigurationError(f"{target} exists already: choose another path, or pass --overwrite to replace it")


def _sync_tree(folder: Path) -> None:
    for path in sorted(folder.rglob("*")):
        if path.is_file():
            with path.open("rb") as stream:
                os.fsync(stream.fileno())


def _swap_in(staging: Path, target: Path) -> None:
    """Renames ``staging`` to ``target``; what stood there is moved aside first and removed last."""
    if not target.exists():
        os.replace(staging, target)
    else:
        aside = target.with_name(f".{target.name}.{secrets.token_hex(4)}.replaced")
        os.replace(target, aside)
        os.replace(staging, target)
        shutil.rmtree(aside, ignore_errors=True)
    fsync_folder(target.parent)


def path_inside(root: Path, relative: str, error: type[ProPETLError]) -> Path:
    """``root / relative``, refused if it is absolute, climbs out of ``root``, or leaves it through a link.

    Args:
        root: folder that holds the manifest.
        relative: path as written in the manifest, with forward slashes.
        error: class of the error to raise.
    """
    pure = PurePosixPath(relative)
    if not relative or pure.is_absolute() or ".." in pure.parts or "\\" in relative or ":" in pure.parts[0]:
        raise error(f"{root}: its manifest names {relative!r}, which is not a path inside the folder; do not use it")
    path = root.joinpath(*pure.parts)
    if not path.resolve().is_relative_to(root.resolve()):
        raise error(f"{root}: {relative!r} is a link that leaves the folder; do not use it")
    return path


def verify_files(root: Path, records: dict[str, dict[str, Any]], error: type[ProPETLError]) -> None:
    """Checks that each file of ``records`` is there with the size and SHA-256 the manifest states."""
    for relative, record in records.items():
        path = path_inside(root, relative, error)
        if not path.is_file():
            raise error(f"{root}: {relative} is missing; restore the folder from its source")
        found = path.stat().st_size
        if found != record["bytes"]:
            raise error(f"{root}: {relative} has {found} bytes, its manifest says {record['bytes']}; it was truncated or replaced")
        if sha256_of_file(path) != record["sha256"]:
            raise error(f"{root}: the SHA-256 of {relative} is not the one in its manifest; the file was changed or damaged")
