"""A table being read: column names and numbered records, whatever file they come from."""

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from reprlib import Repr
from typing import Any

from propetl.errors import DataError

Place = tuple[str, ...]
"""Where a value stands: a column, then keys inside its objects."""

_REPR = Repr()
_REPR.maxlevel = 3
_REPR.maxstring = _REPR.maxother = 1000
_LONGEST, _MOST = 60, 15


@dataclass(frozen=True)
class Record:
    """One row: the number a message gives it, and its values in the order of the columns."""

    number: int
    values: tuple[Any, ...]


@dataclass(frozen=True)
class Table:
    """A table being read.

    Attributes:
        name: the file or hub data set, for messages.
        unit: what records are counted in, ``line`` of the file or ``row`` of the table, from 1.
        columns: the column names.
        records: read once; raises DataError at the first that is broken.
        class_names: the names that the data itself has for the numbers of a column, by its path.
    """

    name: str
    unit: str
    columns: tuple[str, ...]
    records: Iterator[Record]
    class_names: Mapping[Place, tuple[str, ...]] = field(default_factory=dict)

    def where(self, record: Record) -> str:
        """The record as a message names it."""
        return f"{self.name}, {self.unit} {record.number}"

    def wrong(self, record: Record, what: str) -> DataError:
        """The error for a record that cannot be used."""
        return DataError(f"{self.where(record)}: {what}")


@dataclass(frozen=True)
class Sought:
    """The parts of a file that a task needs.

    Attributes:
        columns: sets of columns, any one of which is enough.
        delimiter: between the fields of ``.csv`` and ``.tsv``; None to find it.
    """

    columns: tuple[tuple[str, ...], ...] = ()
    delimiter: str | None = None

    def reads(self, column: str) -> bool:
        """Whether ``column`` is needed, or an object in it."""
        names = (name for names in self.columns for name in names)
        return any(name == column or name.startswith(f"{column}.") for name in names)


def shown(value: object) -> str:
    """``value`` as an error shows it, however large it is."""
    written = repr(value) if isinstance(value, int | float) else _REPR.repr(value)
    return written if len(written) <= _LONGEST else f"{written[: _LONGEST - 3]}..."


def listed(names: Iterable[str]) -> str:
    """Names of columns as an error lists them, however many and long they are."""
    found = [name if len(name) <= _LONGEST and name.isprintable() else shown(name) for name in names]
    more = f", … ({len(found)} in all)" if len(found) > _MOST else ""
    return f"{', '.join(found[:_MOST])}{more}" or "none"


def is_unicode(text: str) -> bool:
    """False for a lone surrogate, which JSON can write but no tokenizer can read."""
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True
