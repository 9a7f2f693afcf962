"""Reads TSV and CSV: fields between delimiters, in CSV quoted as in RFC 4180 and of any length.

The standard library's reader limits a field's length for the whole process, so CSV is read by an expression here.
"""

import re
from collections.abc import Iterator
from pathlib import Path

from propetl.data.table import Record, Sought, Table, listed, shown
from propetl.data.text_file import lines_of, refuse_doubles, text_of
from propetl.errors import DataError

DELIMITERS = (",", ";", "\t", "|")
"""Tried in turn on the first line of a ``.csv`` whose task names none."""

_SEP = re.compile(r"sep=(.)(?:\r\n|\n|\r)")  # Excel's own first line

_Rows = Iterator[tuple[int, tuple[str, ...]]]


def read_tsv(path: Path, sought: Sought) -> Table:
    """Tabs separate, line ends end; a quotation mark is a character like any other.

    A delimiter of the task's own makes it a CSV, and so does a first line that has the columns only without its
    quotation marks, as R writes it.
    """
    if sought.delimiter is not None:
        return read_csv(path, sought)
    text = text_of(path)
    rows = [tuple(line.split("\t")) for line in lines_of(text)]
    if not _fits(rows[0], sought) and _fits(_header(path, text, "\t"), sought):
        return _with_header(path, _rows(path, text, "\t"))
    return _with_header(path, enumerate(rows, start=1))


def read_csv(path: Path, sought: Sought) -> Table:
    """Delimiters separate, quoted as in RFC 4180; a record is numbered by the line on which it starts.

    Raises:
        DataError: it cannot be told which delimiter separates.
    """
    text = text_of(path)
    stated = _SEP.match(text)
    if stated is None:
        return _with_header(path, _rows(path, text, _delimiter(path, text, sought)))
    if sought.delimiter not in (None, stated[1]):
        raise DataError(
            f"{path}, line 1: the file says sep={stated[1]}, and the task's delimiter is {sought.delimiter!r}: drop one"
        )
    return _with_header(path, _rows(path, text, stated[1], stated.end(), 2))


def _delimiter(path: Path, text: str, sought: Sought) -> str:
    """The task's, or the one by which the first line has the columns that are needed."""
    if sought.delimiter is not None:
        return sought.delimiter
    headers = {delimiter: _header(path, text, delimiter) for delimiter in DELIMITERS}
    fitting = [delimiter for delimiter, header in headers.items() if _fits(header, sought)]
    if len(fitting) > 1:
        ways = " and ".join(map(repr, fitting))
        raise DataError(f"{path}, line 1: {ways} both give the columns: say which in the task (delimiter: …)")
    return fitting[0] if fitting else max(DELIMITERS, key=lambda delimiter: len(headers[delimiter]))


def _fits(header: tuple[str, ...], sought: Sought) -> bool:
    return any(set(columns) <= set(header) for columns in sought.columns)


def _header(path: Path, text: str, delimiter: str) -> tuple[str, ...]:
    try:
        return next(_rows(path, text, delimiter))[1]
    except DataError:
        return ()


def _rows(path: Path, text: str, delimiter: str, place: int = 0, line: int = 1) -> _Rows:
    end = re.escape(delimiter)
    # Possessive, so that an open quotation mark in a long file costs one pass and not many.
    field = re.compile(rf'(?:"((?:[^"]++|"")*+)"|([^"\r\n{end}][^\r\n{end}]*+)?)({end}|\r\n|\n|\r|\Z)')
    row: list[str] = []
    start = line
    while match := field.match(text, place):
        quoted, bare, ending = match.groups()
        row.append(quoted.replace('""', '"') if quoted is not None else bare or "")
        if quoted:
            line += len(re.findall(r"\r\n|\n|\r", quoted))
        place = match.end()
        if ending == delimiter:
            continue
        yield start, tuple(row)
        if not ending:
            return
        line += 1
        row, start = [], line
    why = f"a quotation mark stays open, or something follows one that is neither {delimiter!r} nor a line end"
    raise DataError(f"{path}, line {start}: not CSV (at {shown(text[place : place + 20])} {why}): quote as in RFC 4180")


def _with_header(path: Path, rows: _Rows) -> Table:
    _, columns = next(rows)
    refuse_doubles(str(path), columns)
    return Table(str(path), "line", columns, _even(path, columns, rows))


def _even(path: Path, columns: tuple[str, ...], rows: _Rows) -> Iterator[Record]:
    for line, row in rows:
        if len(row) != len(columns):
            raise DataError(
                f"{path}, line {line}: ragged row: {len(row)} fields where the header has {len(columns)} "
                f"({listed(columns)})"
            )
        yield Record(line, row)
