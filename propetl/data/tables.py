"""Loads the splits of a task: checked rows out of files, a folder or the hub."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.data.columns import Cells, cells, needed_columns
from propetl.data.find import split_files
from propetl.data.hub import HUB, read_hub
from propetl.data.label_values import LabelValue
from propetl.data.read import read_table
from propetl.data.reading import Classes, classes_of, known_spellings, looks_like_indices, settled
from propetl.data.table import Sought, Table
from propetl.errors import ConfigurationError, DataError
from propetl.task import TaskSpec

Label = float | str | tuple[str | None, ...]
"""A class, a value, a text, or a tag for each word; a word without tokens has no predicted one."""

_CHOICE_SEED = 20230517  # not a run's seed: runs that differ by seed are scored on the same rows

RawLabel = float | str | LabelValue | tuple[LabelValue, ...]
"""The same as it stands in a file."""


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split.

    Attributes:
        texts: a tuple of one text per column and row, never empty; of a tagging, the words with blanks between.
        labels: [n], int64 class indices; float32 values for a regression; str for a text to generate; a tuple of each
            word's tag for a tagging.
        source: the file or hub data set they came from, for messages and reports.
        note: what a user should know of how they were read; empty for nothing.
    """

    texts: list[tuple[str, ...]]
    labels: NDArray[Any]
    source: str
    note: str = ""

    def __len__(self) -> int:
        return len(self.texts)


def load_split(spec: TaskSpec, source: str | Path, split: str, max_rows: int | None = None) -> Rows:
    """Load and check the rows of one split.

    Args:
        spec: the task.
        source: a folder that holds a folder named like the task, or the task's folder itself; a file (which
            then is the split); or ``hub:NAME[/CONFIG]``, for instance ``hub:nyu-mll/glue/rte``.
        split: ``train``, ``dev``, ``test``, or a file's or hub split's own name.
        max_rows: stop after this many rows; the rest of the file is not checked.

    Raises:
        DataError: the file or a row cannot be used, or labels can be read in two ways; the message names both.
        ConfigurationError: ``max_rows`` is below one.
    """
    if max_rows is not None and max_rows < 1:
        raise ConfigurationError(f"max_rows is {max_rows}: give 1 or more, or none for all rows")
    raw = _read(spec, str(source), split, max_rows)
    return raw.rows(spec, classes_of(spec, raw.seen))


def load_splits(spec: TaskSpec, source: str | Path, splits: Sequence[str]) -> tuple[TaskSpec, dict[str, Rows]]:
    """Load and check several splits of a task, whose labels are all read in one way.

    Args:
        spec: the task.
        source: as for :func:`load_split`.
        splits: names, as for :func:`load_split`.

    Returns:
        The task, with that way noted in its ``label_values`` where it could be doubted; and the rows by split.

    Raises:
        DataError: as for :func:`load_split`, or one split holds class names and the other indices.
    """
    raw = {split: _read(spec, str(source), split) for split in splits}
    seen: dict[LabelValue, str] = {}
    for part in raw.values():
        seen = seen | {value: where for value, where in part.seen.items() if value not in seen}
    classes = classes_of(spec, seen)
    return settled(spec, seen, classes), {split: part.rows(spec, classes) for split, part in raw.items()}


def chosen(rows: Rows, limit: int | None) -> Rows:
    """At most ``limit`` rows, chosen at random (a file may be sorted by label) and kept in order."""
    if limit is None or limit >= len(rows):
        return rows
    choice = np.random.default_rng(_CHOICE_SEED).permutation(len(rows))[:limit]
    places = sorted(choice.tolist())
    return replace(rows, texts=[rows.texts[place] for place in places], labels=rows.labels[places])


def label_array(labels: Sequence[Label], dtype: Any = object) -> NDArray[Any]:
    """``[n]``, also where labels are tuples of one length, of which numpy would make a matrix."""
    return np.fromiter(labels, dtype=dtype, count=len(labels))


@dataclass(eq=False)
class _RawRows:
    """A split whose labels are as they stand in its files.

    Attributes:
        source: the files' names.
        texts: as in :class:`Rows`.
        labels: not yet classes.
        seen: every label value, and where it stands first.
        names: the data's own names for the numbers of the labels.
    """

    source: str
    texts: list[tuple[str, ...]] = field(default_factory=list)
    labels: list[RawLabel] = field(default_factory=list)
    seen: dict[LabelValue, str] = field(default_factory=dict)
    names: tuple[str, ...] = ()

    def rows(self, spec: TaskSpec, classes: Classes) -> Rows:
        if not self.texts:
            raise DataError(f"{self.source} has no rows: give at least one row below the column names")
        labels = [_label(spec, raw, classes) for raw in self.labels]
        array = label_array(labels, spec.asks.label_type)
        return Rows(self.texts, array, self.source, self._note(spec))

    def _note(self, spec: TaskSpec) -> str:
        if spec.label_values or self.names == spec.labels or set(self.names) != set(spec.labels) or not self.names:
            return ""
        theirs, ours = ", ".join(self.names), ", ".join(spec.labels)
        return (
            f"{self.source} has the classes of task {spec.name} in another order ({theirs}; here {ours}): read by name"
        )


def _label(spec: TaskSpec, raw: RawLabel, classes: Mapping[LabelValue, int]) -> Label:
    if isinstance(raw, LabelValue):
        return classes[raw]
    if isinstance(raw, tuple):
        return tuple(spec.labels[classes[value]] for value in raw)
    return raw


def _read(spec: TaskSpec, source: str, split: str, max_rows: int | None = None) -> _RawRows:
    tables = _tables(spec, source, split)
    raw = _RawRows(", ".join(table.name for table in tables))
    known, reads_on = known_spellings(spec), _reads_on(spec)
    for table, row in _cells(spec, tables):
        texts, label = spec.kind.read_row(spec, table, row, known)
        raw.names = row.names
        for place, value in _values(label):
            if value not in raw.seen:
                raw.seen[value] = f"{table.where(row.record)}{place}"
        if len(raw.texts) != max_rows:
            raw.texts.append(texts)
            raw.labels.append(label)
        if len(raw.texts) == max_rows and not reads_on:
            break
    return raw


def _reads_on(spec: TaskSpec) -> bool:
    """Whether the labels of all rows have to be seen, to tell names from indices."""
    return not spec.label_values and looks_like_indices(spec)


def _tables(spec: TaskSpec, source: str, split: str) -> list[Table]:
    if source.startswith(HUB):
        return [read_hub(spec, source, split)]
    sought = Sought(needed_columns(spec), spec.delimiter)
    return [read_table(path, sought) for path in split_files(spec.name, Path(source), split)]


def _cells(spec: TaskSpec, tables: list[Table]) -> Iterator[tuple[Table, Cells]]:
    return ((table, row) for table in tables for row in cells(spec, table))


def _values(label: RawLabel) -> Iterator[tuple[str, LabelValue]]:
    """The class names, indices and so on in a label, each with its place in the row."""
    if isinstance(label, LabelValue):
        yield "", label
    elif isinstance(label, tuple):
        for number, value in enumerate(label, start=1):
            yield f", word {number}", value
