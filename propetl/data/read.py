"""Reads TSV, CSV, JSONL, Parquet and CoNLL columns into one form: column names and numbered records."""

import csv
import io
import json
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from propetl.data.conll import conll_columns, conll_sentences
from propetl.data.table import Record, Table
from propetl.errors import DataError, MissingExtraError


def read_table(path: Path) -> Table:
    """Open a data file by its extension.

    Raises:
        DataError: the extension is unknown, or the file cannot be read, is empty or not UTF-8.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has no known extension: use one of {', '.join(READERS)}")
    try:
        return reader(path)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror or error}") from error


def _text_of(path: Path) -> str:
    """The whole file as text, without byte order mark and trailing line ends."""
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        raise DataError(
            f"{path}, line {line}: byte 0x{data[error.start]:02x} is not UTF-8: save the file as UTF-8"
        ) from error
    text = text.removeprefix("\ufeff").rstrip("\r\n")
    if not text.strip():
        raise DataError(f"{path} is empty: give column names and at least one row")
    return text


def _read_tsv(path: Path) -> Table:
    """Tabs separate, line feeds end; a quotation mark is a character like any other."""
    rows = [tuple(line.removesuffix("\r").split("\t")) for line in _text_of(path).split("\n")]
    return _with_header(path, enumerate(rows, start=1))


def _read_csv(path: Path) -> Table:
    """Commas separate, quoted as in RFC 4180; a record is numbered by the line on which it starts."""
    return _with_header(path, _csv_rows(path, _text_of(path)))


def _csv_rows(path: Path, text: str) -> Iterator[tuple[int, tuple[str, ...]]]:
    reader = csv.reader(io.StringIO(text, newline=""), strict=True)
    line = 1
    try:
        for row in reader:
            yield line, tuple(row)
            line = reader.line_num + 1
    except csv.Error as error:
        raise DataError(f"{path}, line {line}: not CSV ({error}): quote as in RFC 4180") from error


def _with_header(path: Path, rows: Iterator[tuple[int, tuple[str, ...]]]) -> Table:
    _, columns = next(rows)
    _refuse_doubles(path, columns)
    return Table(str(path), "line", columns, _even(path, columns, rows))


def _even(path: Path, columns: tuple[str, ...], rows: Iterator[tuple[int, tuple[str, ...]]]) -> Iterator[Record]:
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {line}: ragged row: {len(row)} fields where the header has {len(columns)} "
                f"({', '.join(columns)})"
            )
        yield Record(line, row)


def _refuse_doubles(path: Path, columns: tuple[str, ...]) -> None:
    double = [column for column in dict.fromkeys(columns) if columns.count(column) > 1]
    if double:
        raise DataError(f"{path}, line 1: column {', '.join(double)} stands there twice: rename one")


def _read_jsonl(path: Path) -> Table:
    """One object a line; the first one's keys are the columns, and all others have to have them too."""
    lines = list(enumerate(_text_of(path).split("\n"), start=1))
    columns = tuple(_json_object(path, *lines[0]))
    return Table(str(path), "line", columns, _json_records(path, columns, lines))


def _json_records(path: Path, columns: tuple[str, ...], lines: list[tuple[int, str]]) -> Iterator[Record]:
    for line, text in lines:
        row = _json_object(path, line, text)
        if set(row) != set(columns):
            raise DataError(
                f"{path}, line {line}: ragged row: keys {', '.join(row) or 'none'} where line 1 has "
                f"{', '.join(columns) or 'none'}"
            )
        yield Record(line, tuple(row[column] for column in columns))


def _json_object(path: Path, line: int, text: str) -> dict[str, Any]:
    try:
        row = json.loads(text)
    except (ValueError, RecursionError) as error:
        raise DataError(f"{path}, line {line}: not JSON ({error}): write one object a line") from error
    if not isinstance(row, dict):
        raise DataError(f"{path}, line {line}: not a JSON object: write one object a line")
    return row


def _read_parquet(path: Path) -> Table:
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(f"reading {path}", "pyarrow", "train") from error
    try:
        table = parquet.ParquetFile(path)
        columns = tuple(table.schema_arrow.names)
        _refuse_doubles(path, columns)
        return Table(str(path), "row", columns, _parquet_records(path, table))
    except arrow.ArrowException as error:
        raise DataError(f"{path} is not a Parquet file: {_one_line(error)}") from error


def _parquet_records(path: Path, table: Any) -> Iterator[Record]:
    import pyarrow as arrow

    number = 0
    try:
        for batch in table.iter_batches():
            for values in zip(*(column.to_pylist() for column in batch.columns), strict=True):
                number += 1
                yield Record(number, values)
    except (arrow.ArrowException, UnicodeDecodeError, OSError) as error:
        raise DataError(f"{path}, row {number + 1}: cannot be read: {_one_line(error)}") from error


def _read_conll(path: Path) -> Table:
    """A record is a sentence, its values are lists; it is numbered by its first line."""
    text = _text_of(path)
    sentences = (Record(number, columns) for number, columns in conll_sentences(path, text))
    return Table(str(path), "line", conll_columns(path, text), sentences)


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split())


READERS: dict[str, Callable[[Path], Table]] = {
    ".tsv": _read_tsv,
    ".csv": _read_csv,
    ".jsonl": _read_jsonl,
    ".parquet": _read_parquet,
    ".conll": _read_conll,
}
"""Extension -> reader."""
