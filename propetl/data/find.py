"""Finds the files of a split in a folder laid out like GLUE or like a clone from the hub."""

import re
from pathlib import Path

from propetl.data.read import READERS
from propetl.errors import DataError

SPLIT_STEMS = {
    "train": ("train",),
    "dev": ("dev", "dev_matched", "validation", "validation_matched", "valid"),
    "test": ("test", "test_matched"),
}
"""The names a split's file may have, before the extension."""

# As `datasets` writes them; older versions add a fingerprint: `train-00000-of-00002-1f3a.parquet`.
_PART = re.compile(r"(?P<stem>[^-]+)-(?P<number>[0-9]+)-of-(?P<count>[0-9]+)(-[0-9a-f]+)?")


def split_files(task: str, source: Path, split: str) -> tuple[Path, ...]:
    """The files that hold ``split``: one, or the numbered parts of one Parquet table.

    Args:
        task: a folder of this name inside ``source`` is looked into where there is one.
        source: a file, which is taken as it is, or a folder.
        split: a key of ``SPLIT_STEMS``, or the file's own name without its extension.

    Raises:
        DataError: there is no such file, more than one that it could be, or not every part of a table.
    """
    try:
        return _split_files(task, source.expanduser(), split)
    except OSError as error:
        raise DataError(f"{source} cannot be read: {error.strerror or error}: check its path") from error


def _split_files(task: str, source: Path, split: str) -> tuple[Path, ...]:
    if source.is_file():
        return (source,)
    if not source.is_dir():
        raise DataError(f"{source} is not there: give a data file, a folder, or hub:NAME/CONFIG")
    folder = source / task if (source / task).is_dir() else source
    names = sorted(path.name for path in folder.iterdir() if path.is_file())
    stems = SPLIT_STEMS.get(split, (split,))
    found = [name for name in names if _stem(name) in stems]
    if len({_stem(name) + Path(name).suffix for name in found}) > 1:
        raise DataError(f"{folder} holds {' and '.join(found)} for split {split!r}: give the path of the one to use")
    if found and (wrong := _wrong_parts(found)):
        raise DataError(f"{folder}: split {split!r}: {wrong}")
    if not found:
        wanted = f"{'|'.join(stems)} with {', '.join(READERS)}"
        there = ", ".join(names[:10]) or "nothing"
        raise DataError(f"{folder} has no file for split {split!r} of task {task!r} ({wanted}); it holds {there}")
    return tuple(folder / name for name in found)


def _wrong_parts(names: list[str]) -> str:
    """Says what keeps ``names`` from being one table; empty where they are: one file, or every part once."""
    parts = [_PART.fullmatch(Path(name).stem) for name in names]
    if len(names) == 1 and parts[0] is None:
        return ""
    if len({part and part["count"] for part in parts}) > 1:
        return f"{' and '.join(names)} are not of one table: leave the files of one there"
    numbers = [int(part["number"]) for part in parts if part]
    count = next(int(part["count"]) for part in parts if part)
    if numbers != list(range(count)):
        held = ", ".join(map(str, numbers))
        return f"of its {count} parts (from 0), there are {held}: give each of them once"
    return ""


def _stem(name: str) -> str:
    """``train`` for ``train.tsv`` and for ``train-00000-of-00002.parquet``; empty for no data file."""
    path = Path(name)
    if path.suffix.lower() not in READERS:
        return ""
    part = _PART.fullmatch(path.stem) if path.suffix == ".parquet" else None
    return part["stem"] if part else path.stem
