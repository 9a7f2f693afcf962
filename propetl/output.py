"""Files that a user names, written as a shell's ``>`` would: into what is there, and not in its place."""

import os
import stat
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from propetl.files import write_atomically

_MOST_LINKS = 40  # as many as Linux follows


def write_output(path: Path, content: bytes) -> None:
    """Writes ``content`` to ``path``: a new file or a regular one whole or not at all, anything else straight through.

    Links are followed and stay links, hard ones too. Devices, pipes and descriptors such as ``/dev/stdout`` are written
    to. Mode and owner of a file that is there stay as they are.

    Raises:
        OSError: naming ``path``.
    """
    with _naming(path):
        number = own_descriptor(path)
        if number is not None:
            _write_to_descriptor(number, content)
        elif _is_replaceable(path):
            write_atomically(path, content)
        elif stat.S_ISREG(path.stat().st_mode):
            _overwrite(path, content)
        else:
            with path.open("wb") as stream:
                stream.write(content)


@contextmanager
def _naming(path: Path) -> Iterator[None]:
    """An error names the file that was asked for, not a temporary one beside it."""
    try:
        yield
    except OSError as error:
        error.filename, error.filename2 = str(path), None
        raise


def _is_replaceable(path: Path) -> bool:
    """Whether another file may take this one's place: it is not there yet, or has one name, in a folder of ours."""
    try:
        there = path.stat()
    except FileNotFoundError:
        return True
    real = os.path.realpath(path)
    alone = stat.S_ISREG(there.st_mode) and there.st_nlink == 1
    return alone and os.access(os.path.dirname(real), os.W_OK | os.X_OK) and not os.path.ismount(real)


def _overwrite(path: Path, content: bytes) -> None:
    """Into the file itself; cut to its new length at the end, so that a full disk costs as little as it can."""
    with path.open("r+b") as stream:
        stream.write(content)
        stream.truncate()
        stream.flush()
        os.fsync(stream.fileno())


def own_descriptor(path: Path) -> int | None:
    """The number of an open descriptor that ``path`` names, as ``/dev/stdout`` and ``/dev/fd/N`` do.

    Opened by name, a file behind it would be written from its start again.
    """
    place = str(path)
    for _ in range(_MOST_LINKS):
        folder, name = os.path.realpath(os.path.dirname(place) or "."), os.path.basename(place)
        if folder == f"/proc/{os.getpid()}/fd" and name.isdigit():
            return int(name)
        if not os.path.islink(place):
            return None
        place = os.path.join(folder, os.readlink(place))
    return None


def _write_to_descriptor(number: int, content: bytes) -> None:
    for stream in (sys.stdout, sys.stderr):
        stream.flush()  # what was printed before comes before
    with os.fdopen(os.dup(number), "wb") as stream:
        stream.write(content)
