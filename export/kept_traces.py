"""Graphs that were traced before, in a folder that the user names: tracing is most of the time of an export."""

import contextlib
import os
from pathlib import Path

from propetl.errors import ProPETLError
from propetl.files import make_folder, sha256_of_bytes, whole_file, write_atomically

VARIABLE = "PROPETL_TRACES"
"""Environment variable that names the folder where no option does."""

SUFFIX = ".propetl-trace"
"""Of the files' names: others in the folder are somebody else's."""

_MOST = 200
"""Files that are kept: of some ten kilobytes each."""

_DIGITS = 64


class KeptTraces:
    """A folder with a file for each key: the hash of the key and of a graph's bytes, then the bytes.

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
            found = whole_file(str(path))
        except OSError:
            return None
        with contextlib.suppress(OSError):  # somebody else's file, which can be read all the same
            os.utime(path)
        content = found[_DIGITS:]
        return content if found[:_DIGITS] == _hash(key, content) else None

    def put(self, key: str, content: bytes) -> None:
        """Keeps ``content``, and drops what was not used for longest; nothing is written through a link."""
        path = self._path(key)
        with contextlib.suppress(OSError, ProPETLError):
            make_folder(self.folder)
            if not path.is_symlink():
                write_atomically(path, _hash(key, content) + content)
            for old in sorted(self.folder.glob(f"*{SUFFIX}"), key=_last_use)[:-_MOST]:
                old.unlink(missing_ok=True)

    def _path(self, key: str) -> Path:
        return self.folder / f"{key}{SUFFIX}"


def _hash(key: str, content: bytes) -> bytes:
    """Of both: a file under another name is damaged, too."""
    return sha256_of_bytes(key.encode() + content).encode()


def _last_use(path: Path) -> float:
    """Seconds; 0 of a file that another process has just dropped."""
    try:
        return path.lstat().st_mtime
    except OSError:
        return 0.0
