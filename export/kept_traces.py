"""Graphs that were traced before, in a folder that the user names: tracing is most of the time of an export."""

import contextlib
import os
from pathlib import Path

from propetl.errors import ProPETLError
from propetl.files import make_folder, sha256_of_bytes, write_atomically

VARIABLE = "PROPETL_TRACES"
"""Environment variable that names the folder where no option does."""

_MOST = 200
"""Files that are kept: of some ten kilobytes each."""

_DIGITS = 64


class KeptTraces:
    """A folder with a file for each key: the hash of a graph's bytes, then the bytes.

    It is a cache: what cannot be read is not there, and what cannot be written is not kept.
    """

    def __init__(self, folder: Path) -> None:
        """In ``folder``, which is made when something is kept."""
        self.folder = folder

    @classmethod
    def of(cls, folder: str | None) -> "KeptTraces | None":
        """Those in ``folder``, else in the folder that :data:`VARIABLE` names; None where neither does."""
        named = folder or os.environ.get(VARIABLE)
        return cls(Path(named)) if named else None

    def get(self, key: str) -> bytes | None:
        """What is kept under ``key``; None where nothing is, or it is damaged."""
        path = self._path(key)
        try:
            content = path.read_bytes()
            path.touch()
        except OSError:
            return None
        return content[_DIGITS:] if content[:_DIGITS] == sha256_of_bytes(content[_DIGITS:]).encode() else None

    def put(self, key: str, content: bytes) -> None:
        """Keeps ``content``, and drops what was not used for longest."""
        with contextlib.suppress(OSError, ProPETLError):
            make_folder(self.folder)
            write_atomically(self._path(key), sha256_of_bytes(content).encode() + content)
            for old in sorted(self.folder.glob("*.trace"), key=lambda path: path.stat().st_mtime)[:-_MOST]:
                old.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}.trace"
