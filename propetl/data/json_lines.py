"""Reads lines of JSON, strictly: what JSON readers take in different ways is refused."""

from collections.abc import Iterator
from decimal import Decimal
from pathlib import Path
from typing import Any

from propetl.data.table import Record, Sought, Table, listed
from propetl.data.text_file import lines_of, text_of
from propetl.errors import DataError
from propetl.strict_json import parse_json

_DIGITS = 300  # beyond what a float holds; Python refuses integers of more than 4,300 digits


def read_jsonl(path: Path, sought: Sought) -> Table:
    """One object a line; the first one's keys are the columns, and all others have to have them too."""
    lines = list(enumerate(lines_of(text_of(path)), start=1))
    columns = tuple(_object(path, *lines[0]))
    return Table(str(path), "line", columns, _records(path, columns, lines))


def _records(path: Path, columns: tuple[str, ...], lines: list[tuple[int, str]]) -> Iterator[Record]:
    for line, text in lines:
        row = _object(path, line, text)
        if set(row) != set(columns):
            raise DataError(f"{path}, line {line}: ragged row: keys {listed(row)} where line 1 has {listed(columns)}")
        yield Record(line, tuple(row[column] for column in columns))


def _object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        row = parse_json(text, whole=_whole, real=float)
    except ValueError as error:
        raise DataError(f"{path}, line {line}: not JSON ({error}): write one object a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {line}: not a JSON object: write one object a line")
    return row


def _whole(digits: str) -> int | Decimal:
    return int(digits) if len(digits) <= _DIGITS else Decimal(digits)
