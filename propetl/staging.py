"""Folders that are whole or absent: filled beside their place, and put there in one rename."""

import ctypes
import errno
import os
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from propetl.errors import ConfigurationError
from propetl.files import flush, keep_owner_and_mode, make_folder
from propetl.partial import REPLACED, create_folder, lock, name_beside, remove_leftovers, remove_tree


@contextmanager
def staged_folder(target: Path, *, overwrite: bool = False, marker: str | None = None) -> Iterator[Path]:
    """A folder to fill, which becomes ``target`` in one rename when the block ends without an error.

    A link is followed: what it leads to is written, and the link stays. What killed runs with the same target left
    beside it is removed.

    Args:
        target: where the result is to stand.
        overwrite: replace a folder that is there; without it such a folder is an error, raised before any
            work.
        marker: a file that a folder must hold to be replaced, so that a mistyped path costs nobody their
            files.

    Raises:
        ConfigurationError: ``target`` exists already, or its parent cannot be written.
    """
    target = Path(os.path.realpath(target))  # "." has no name to write beside
    remove_leftovers(target)
    _refuse_existing(target, overwrite, marker)
    with scratch_folder(target) as staging:
        yield staging
        _sync_tree(staging)
        _refuse_existing(target, overwrite, marker)  # another process may have been faster
        _swap_in(staging, target)


@contextmanager
def scratch_folder(target: Path) -> Iterator[Path]:
    """A folder beside ``target`` for the length of the block; the next one for ``target`` removes it if this is killed.

    Raises:
        ConfigurationError: the parent of ``target`` cannot be written.
    """
    remove_leftovers(target)
    staging, descriptor = _make_staging(target)
    try:
        yield staging
    except OSError as error:
        _name(error, staging, target)
        raise
    finally:
        remove_tree(staging)
        os.close(descriptor)


def _name(error: OSError, staging: Path, target: Path) -> None:
    """A full disk is told of what was asked for, and not of a file in a folder that is gone when the line is read."""
    inside = isinstance(error.filename, str) and error.filename.startswith(str(staging))
    if inside or (error.filename is None and error.errno in (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)):
        error.filename, error.filename2 = str(target), None


def _make_staging(target: Path) -> tuple[Path, int]:
    try:
        make_folder(target.parent)
        return create_folder(target)
    except PermissionError as error:
        raise ConfigurationError(f"cannot write {target}: no permission for {target.parent}") from error
    except (FileExistsError, NotADirectoryError) as error:
        reason = f"{target.parent} is not a folder; choose another path"
        raise ConfigurationError(f"cannot write {target}: {reason}") from error


def _refuse_existing(target: Path, overwrite: bool, marker: str | None) -> None:
    if os.path.lexists(target) and not target.is_dir():
        raise ConfigurationError(f"cannot write {target}: a file is there, or a link to nothing; choose another path")
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
    else:
        keep_owner_and_mode(staging, target.stat())
        if not _exchanged(staging, target):
            _replace_by_way_of_aside(staging, target)
    flush(target.parent)


def _exchanged(left: Path, right: Path) -> bool:
    """Whether the system could exchange the two in one step (Linux can): a kill finds one or the other."""
    rename = getattr(ctypes.CDLL(None), "renameat2", None)
    here, exchange = -100, 2  # AT_FDCWD, RENAME_EXCHANGE
    return rename is not None and rename(here, os.fsencode(left), here, os.fsencode(right), exchange) == 0


def _replace_by_way_of_aside(staging: Path, target: Path) -> None:
    """In two steps; killed between them, the next run puts the old folder back."""
    aside, descriptor = name_beside(target, REPLACED), os.open(target, os.O_RDONLY)
    try:
        lock(descriptor)
        os.replace(target, aside)
        try:
            os.replace(staging, target)
        except BaseException:
            os.replace(aside, target)
            raise
        remove_tree(aside)
    finally:
        os.close(descriptor)
