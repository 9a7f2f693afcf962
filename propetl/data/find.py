"""Finds the files of a split in a folder laid out like GLUE or like a clone from the hub."""

from pathlib import Path

from propetl.data.read import READERS
from propetl.errors import DataError

SPLIT_STEMS = {
    "train": ("train",),
    "dev": ("dev", "dev_matched", "validation", "validation_matched", "valid"),
    "test": ("test", "test_matched"),
}
"""The names a split's file may have, before the extension."""


def split_files(task: str, source: Path, split: str) -> tuple[Path, ...]:
    """The files that hold ``split``: one, or the numbered parts of one Parquet table.

    Args:
        task: a folder of this name inside ``source`` is looked into where there is one.
        source: a file, which is taken as it is, or a folder.
        split: a key of ``SPLIT_STEMS``, or the file's own name without its extension.

    Raises:
        DataError: there is no such file, or more than one that it could be.
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
    if not found:
        wanted = f"{'|'.join(stems)} with {', '.join(READERS)}"
        there = ", ".join(names[:10]) or "nothing"
        raise DataError(f"{folder} has no file for split {split!r} of task {task!r} ({wanted}); it holds {there}")
    return tuple(folder / name for name in found)


def _stem(name: str) -> str:
    """``train`` for ``train.tsv`` and for ``train-00000-of-00002.parquet``; empty for no data file."""
    path = Path(name)
    if path.suffix.lower() not in READERS:
        return ""
    stem, _, part = path.stem.partition("-")
    return stem if not part or (path.suffix == ".parquet" and "-of-" in part) else path.stem
