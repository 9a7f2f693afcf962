"""Files that engines map into memory: what they map is what was hashed."""

from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from propetl.errors import ArtifactError
from propetl.files import verify_files

Record = dict[str, Any]
Identity = tuple[int, ...]


class HeldFiles:
    """Remembers which file each hash is of: device, inode, size, and the times of its last changes.

    Hashing runs beside the loading of engines, so either may come first. A file that is mapped before it was hashed
    waits for :meth:`settle`; one that is mapped later is hashed again only if it changed since.
    """

    def __init__(self) -> None:
        self._hashed: dict[Path, Identity] = {}
        self._waiting: list[tuple[Path, Identity]] = []

    def verify(self, root: Path, relative: str, record: Record) -> None:
        """Checks size and SHA-256, unless this very file was checked before.

        Raises:
            ArtifactError: it is missing, or not the one of its record; or it was changed while it was read.
        """
        path = root / relative
        before = _identity(path)
        if before is not None and self._hashed.get(path) == before:
            return
        verify_files(root, {relative: record}, ArtifactError)
        if before is None or _identity(path) != before:
            raise _changed(path)
        self._hashed[path] = before

    @contextmanager
    def mapping(self, root: Path, relative: str, record: Record) -> Iterator[None]:
        """A block in which an engine maps a file.

        Raises:
            ArtifactError: the file changed meanwhile, or is not the one of its record.
        """
        path = root / relative
        before = _identity(path)
        yield
        if before is None or _identity(path) != before:
            raise _changed(path)
        if path not in self._hashed:
            self._waiting.append((path, before))
            return
        self.verify(root, relative, record)
        self._check(path, before)

    def settle(self) -> None:
        """Holds what was mapped against what was hashed meanwhile; :class:`ArtifactError` if it is another file."""
        while self._waiting:
            self._check(*self._waiting.pop())

    def _check(self, path: Path, mapped: Identity) -> None:
        if self._hashed.get(path) != mapped:
            raise _changed(path)


def _identity(path: Path) -> Identity | None:
    try:
        status = path.stat()
    except OSError:
        return None  # whoever reads it says so
    return (status.st_dev, status.st_ino, status.st_size, status.st_mtime_ns, status.st_ctime_ns)


def _changed(path: Path) -> ArtifactError:
    return ArtifactError(f"{path}: was changed while it was opened; open the artifact again")
