"""Unfinished files and folders: beside what they are to become, locked while their process lives, removed after it.

``.NAME.1a2b3c4d.partial`` is being written. ``.NAME.1a2b3c4d.replaced`` is an old folder that the new one is about to
take the place of. The system lets go of a lock when a process ends, however it ends: what nobody holds is a leftover.
"""

import errno
import os
from collections.abc import Iterator
from contextlib import suppress
from enum import Enum
from pathlib import Path

PARTIAL, REPLACED = "partial", "replaced"
_DIGITS = 8
_LONGEST_STEM = 200  # bytes of NAME; with the rest it stays below what a file's name may have


class Lock(Enum):
    """How asking for a lock ended."""

    HELD = "held"
    TAKEN = "taken"
    UNKNOWN = "unknown"  # the file system has no locks


def name_beside(target: Path, kind: str = PARTIAL) -> Path:
    """A name that nobody else has; ``secrets`` would load a dozen modules where files are only read."""
    return target.with_name(f".{_stem(target)}.{os.urandom(_DIGITS // 2).hex()}.{kind}")


def create_file(target: Path) -> tuple[Path, int]:
    """A locked empty file beside ``target``, by path and descriptor; the umask decides who may read it."""
    while True:
        path = name_beside(target)
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
        if _is_ours(path, descriptor):
            return path, descriptor
        os.close(descriptor)


def create_folder(target: Path) -> tuple[Path, int]:
    """A locked empty folder beside ``target``, by path and descriptor."""
    while True:
        path = name_beside(target)
        path.mkdir()
        with suppress(FileNotFoundError):
            descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
            if _is_ours(path, descriptor):
                return path, descriptor
            os.close(descriptor)


def lock(descriptor: int) -> Lock:
    """Locks a file or folder for this process, without waiting."""
    import fcntl  # here: who only reads never needs it

    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError as error:
        return Lock.TAKEN if error.errno in (errno.EWOULDBLOCK, errno.EACCES) else Lock.UNKNOWN
    return Lock.HELD


def _is_ours(path: Path, descriptor: int) -> bool:
    """Locks what was made just now; False if a neighbour took it for a leftover before."""
    if lock(descriptor) is Lock.TAKEN:
        return False
    try:
        return os.path.samestat(os.fstat(descriptor), os.lstat(path))
    except FileNotFoundError:
        return False


def remove_leftovers(target: Path) -> None:
    """Removes what killed processes left beside ``target``; a folder that was moved aside goes back if it has to."""
    for path in sorted(_beside(target)):
        with suppress(OSError):  # of another user, or gone meanwhile: it is no obstacle
            descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                if lock(descriptor) is Lock.HELD:
                    _clear(path, target)
            finally:
                os.close(descriptor)


def _clear(path: Path, target: Path) -> None:
    if path.suffix == f".{REPLACED}" and not os.path.lexists(target):
        os.replace(path, target)
    elif path.is_dir():
        remove_tree(path)
    else:
        path.unlink()


def _beside(target: Path) -> Iterator[Path]:
    prefix = f".{_stem(target)}."
    with suppress(FileNotFoundError, NotADirectoryError), os.scandir(target.parent) as entries:
        for entry in entries:
            digits, _, kind = entry.name.removeprefix(prefix).partition(".")
            if entry.name.startswith(prefix) and len(digits) == _DIGITS and kind in (PARTIAL, REPLACED):
                yield target.with_name(entry.name)


def _stem(target: Path) -> str:
    return os.fsdecode(os.fsencode(target.name)[:_LONGEST_STEM])


def remove_tree(folder: Path) -> None:
    """Removes ``folder`` with all in it; what cannot be removed stays."""
    import shutil  # here: with its compressors it takes milliseconds, and those who read files never need it

    shutil.rmtree(folder, ignore_errors=True)
