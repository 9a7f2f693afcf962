"""Finds a task's columns in a table, also inside objects: ``ticket.subject`` is a key of column ``ticket``."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from propetl.data.table import Place, Record, Table, listed, shown
from propetl.errors import DataError
from propetl.nearest import did_you_mean
from propetl.task import TaskSpec


@dataclass(frozen=True)
class Cells:
    """The values that a task needs from one record.

    Attributes:
        record: the row.
        texts: values of the text columns.
        label: value of the label column.
        names: the data's own names for the label's numbers; empty where it has none.
    """

    record: Record
    texts: tuple[Any, ...]
    label: Any
    names: tuple[str, ...]


def cells(spec: TaskSpec, table: Table) -> Iterator[Cells]:
    """The records, each cut down to the task's columns.

    Raises:
        DataError: a column is missing, or its name can mean two.
    """
    columns = (*_text_columns(spec, table), spec.label_column)
    missing = [column for column in columns if not _candidates(table.columns, column)]
    if missing:
        raise _missing(spec, table, missing)
    names = {place: _telling(names) for place, names in table.class_names.items()}
    *texts, label = [_reader(table, column) for column in columns]
    for record in table.records:
        place, value = label(record)
        yield Cells(record, tuple([text(record)[1] for text in texts]), value, names.get(place, ()))


def _telling(names: tuple[str, ...]) -> tuple[str, ...]:
    """The data's names for its numbers; none where they are the numbers themselves."""
    return () if names == tuple(map(str, range(len(names)))) else names


def needed_columns(spec: TaskSpec) -> tuple[tuple[str, ...], ...]:
    """Sets of columns, any one of which is enough."""
    return tuple((*columns, spec.label_column) for columns in (spec.columns, *spec.alternatives))


def _text_columns(spec: TaskSpec, table: Table) -> tuple[str, ...]:
    for columns in (spec.columns, *spec.alternatives):
        if all(_candidates(table.columns, column) for column in columns):
            return columns
    return spec.columns


def _candidates(columns: tuple[str, ...], name: str) -> list[tuple[int, list[str]]]:
    """Columns that ``name`` can begin with, and the keys that are left of it."""
    parts = name.split(".")
    heads = ((".".join(parts[:cut]), parts[cut:]) for cut in range(len(parts), 0, -1))
    return [(columns.index(head), rest) for head, rest in heads if head in columns]


def _reader(table: Table, name: str) -> Callable[[Record], tuple[Place, Any]]:
    """Takes the value of column ``name``, and where it stands, out of a record."""
    candidates = _candidates(table.columns, name)
    (column, rest), *others = candidates
    if rest or others:
        return lambda record: _value(table, record, name, candidates)
    place = (name,)
    return lambda record: (place, record.values[column])


def _value(table: Table, record: Record, name: str, candidates: list[tuple[int, list[str]]]) -> tuple[Place, Any]:
    found = [
        ((table.columns[column], *keys), value)
        for column, rest in candidates
        for keys, value in _inside(record.values[column], rest)
    ]
    if len(found) > 1:
        ways = " and ".join(" → ".join(map(repr, place)) for place, _ in found)
        raise table.wrong(record, f"column {name} stands there twice, as {ways}: rename one")
    if not found:
        inside = shown(record.values[candidates[0][0]])
        raise table.wrong(record, f"column {name} is missing: {listed([table.columns[candidates[0][0]]])} is {inside}")
    return found[0]


def _inside(value: Any, rest: list[str]) -> Iterator[tuple[Place, Any]]:
    """Every way to follow the dotted keys ``rest`` through objects; a key may itself have dots."""
    if not rest:
        yield (), value
    elif isinstance(value, Mapping):
        for cut in range(1, len(rest) + 1):
            key = ".".join(rest[:cut])
            if key in value:
                for keys, found in _inside(value[key], rest[cut:]):
                    yield (key, *keys), found


def _missing(spec: TaskSpec, table: Table, missing: list[str]) -> DataError:
    tried = "".join(f" (or {', '.join(other)})" for other in spec.alternatives)
    there = listed(name or "one without a name" for name in table.columns)
    hint = did_you_mean(missing[0], [name for name in table.columns if name])
    return DataError(
        f"{table.name}, {table.unit} 1: column {', '.join(missing)} is missing: task {spec.name} needs "
        f"{', '.join((*spec.columns, spec.label_column))}{tried}; there are {there}{hint}"
    )
