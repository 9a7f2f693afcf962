"""Loads one split of a task: checked rows out of a file, a folder or the hub."""

import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.data.find import split_files
from propetl.data.hub import HUB, read_hub
from propetl.data.read import read_table
from propetl.data.table import Record, Table, is_unicode, shown
from propetl.data.tagged import tagged_row
from propetl.data.tasks import Problem, TaskSpec
from propetl.errors import ConfigurationError, DataError

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

_LABEL_TYPES: dict[Problem, Any] = {"classification": np.int64, "regression": np.float32}

Label = float | str | tuple[str | None, ...]
"""A class, a value, a text, or a tag for each word; a word without tokens has no predicted one."""

LARGEST = float(np.finfo(np.float32).max)

_CHOICE_SEED = 20230517  # not a run's seed: runs that differ by seed are scored on the same rows


@dataclass(frozen=True, eq=False)
class Rows:
    """The rows of one split.

    Attributes:
        texts: a tuple of one or two sentences per row, never empty; of a tagging, the words with blanks between.
        labels: [n], int64 class indices; float32 values for a regression; str for a text to generate; a tuple of each
            word's tag for a tagging.
        source: the file or hub data set they came from, for messages and reports.
    """

    texts: list[tuple[str, ...]]
    labels: NDArray[Any]
    source: str

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
        DataError: the file or a row cannot be used; the message names both.
        ConfigurationError: ``max_rows`` is below one.
    """
    if max_rows is not None and max_rows < 1:
        raise ConfigurationError(f"max_rows is {max_rows}: give 1 or more, or none for all rows")
    tables = _tables(spec, str(source), split)
    records = ((table, record) for table in tables for record in _records(spec, table))
    texts: list[tuple[str, ...]] = []
    labels: list[Label] = []
    for table, record in islice(records, max_rows):
        text, label = _row(spec, table, record)
        texts.append(text)
        labels.append(label)
    source_names = ", ".join(table.name for table in tables)
    if not texts:
        raise DataError(f"{source_names} has no rows: give at least one row below the column names")
    return Rows(texts, label_array(labels, _LABEL_TYPES.get(spec.asks, object)), source_names)


def chosen(rows: Rows, limit: int | None) -> Rows:
    """At most ``limit`` rows, chosen at random (a file may be sorted by label) and kept in order."""
    if limit is None or limit >= len(rows):
        return rows
    choice = np.random.default_rng(_CHOICE_SEED).permutation(len(rows))[:limit]
    places = sorted(choice.tolist())
    return Rows([rows.texts[place] for place in places], rows.labels[places], rows.source)


def label_array(labels: Sequence[Label], dtype: Any = object) -> NDArray[Any]:
    """``[n]``, also where labels are tuples of one length, of which numpy would make a matrix."""
    return np.fromiter(labels, dtype=dtype, count=len(labels))


def _tables(spec: TaskSpec, source: str, split: str) -> list[Table]:
    if source.startswith(HUB):
        return [read_hub(spec, source, split)]
    return [read_table(path) for path in split_files(spec.name, Path(source), split)]


def _records(spec: TaskSpec, table: Table) -> Iterator[Record]:
    """The records, each cut down to the task's text columns and the label, in this order."""
    columns = (*_text_columns(spec, table), spec.label_column)
    missing = [column for column in columns if column not in table.columns]
    if missing:
        tried = "".join(f" (or {', '.join(other)})" for other in spec.alternatives)
        there = ", ".join(table.columns) or "none"
        raise DataError(
            f"{table.name}, {table.unit} 1: column {', '.join(missing)} is missing: task {spec.name} needs "
            f"{', '.join((*spec.columns, spec.label_column))}{tried}; there are {there}"
        )
    places = [table.columns.index(column) for column in columns]
    for record in table.records:
        yield Record(record.number, tuple(record.values[place] for place in places))


def _text_columns(spec: TaskSpec, table: Table) -> tuple[str, ...]:
    for columns in (spec.columns, *spec.alternatives):
        if set(columns) <= set(table.columns):
            return columns
    return spec.columns


def _row(spec: TaskSpec, table: Table, record: Record) -> tuple[tuple[str, ...], Label]:
    if spec.problem == "tagging":
        text, tags = tagged_row(spec, table, record)
        return (text,), tags
    return _texts(table, record), _label(spec, table, record)


def _texts(table: Table, record: Record) -> tuple[str, ...]:
    return tuple(_text(table, record, value) for value in record.values[:-1])


def _text(table: Table, record: Record, text: object) -> str:
    if not isinstance(text, str):
        raise table.wrong(record, f"text expected, found {shown(text)}: write it as text")
    if not text.strip():
        raise table.wrong(record, "a text is empty: fill it in or leave the row out")
    if not is_unicode(text):
        raise table.wrong(record, "a text is not UTF-8 (half of a surrogate pair): repair or leave it out")
    return text


def _label(spec: TaskSpec, table: Table, record: Record) -> float | str:
    raw = record.values[-1]
    if spec.asks == "text":
        return _text(table, record, raw)
    value = "" if raw is None else str(raw).lower() if isinstance(raw, bool) else str(raw).strip()
    if not value:
        raise table.wrong(record, "the label is empty: fill it in or leave the row out")
    return _value(table, record, value) if spec.asks == "regression" else _class(spec, table, record, value)


def _value(table: Table, record: Record, value: str) -> float:
    if not NUMBER.fullmatch(value) or abs(float(value)) > LARGEST:
        raise table.wrong(record, f"label {shown(value)} is not a finite number: a regression needs one")
    return float(value)


def _class(spec: TaskSpec, table: Table, record: Record, value: str) -> int:
    index = spec.class_of(value)
    if index is not None:
        return index
    if NUMBER.fullmatch(value) and not re.fullmatch(r"[+-]?[0-9]+", value):
        raise table.wrong(record, f"label {shown(value)} is a float where a class is due: use {spec.allowed()}")
    raise table.wrong(record, f"label {shown(value)} is unknown: task {spec.name} has {spec.allowed()}")
