"""A data file of text, whole and decoded."""

import codecs
from collections import Counter
from pathlib import Path

from propetl.data.table import listed
from propetl.errors import DataError

_OTHER_MARKS = {
    codecs.BOM_UTF32_LE: "UTF-32",  # begins with UTF-16's mark, so it comes first
    codecs.BOM_UTF32_BE: "UTF-32",
    codecs.BOM_UTF16_LE: "UTF-16",
    codecs.BOM_UTF16_BE: "UTF-16",
}


def text_of(path: Path) -> str:
    """The whole file as text, without byte order mark and trailing line ends.

    Raises:
        DataError: it is empty, or not UTF-8.
    """
    data = path.read_bytes()
    try:
        text = data.decode("utf-8")
    except UnicodeDecodeError as error:
        line = data.count(b"\n", 0, error.start) + 1
        other = next((name for mark, name in _OTHER_MARKS.items() if data.startswith(mark)), None)
        what = f"the file is {other}, not UTF-8" if other else f"byte 0x{data[error.start]:02x} is not UTF-8"
        raise DataError(f"{path}, line {line}: {what}: save the file as UTF-8 (Excel: CSV UTF-8)") from error
    text = text.removeprefix("\ufeff").rstrip("\r\n")
    if not text.strip():
        raise DataError(f"{path} is empty: give column names and at least one row")
    return text


def lines_of(text: str) -> list[str]:
    """Lines as LF, CRLF or, in a file that has no LF, CR ends them; other separators are part of a line."""
    return [line.removesuffix("\r") for line in text.split("\n")] if "\n" in text else text.split("\r")


def refuse_doubles(name: str, columns: tuple[str, ...]) -> None:
    """Refuses two columns of one name; several without any are no column of a task.

    Raises:
        DataError: naming them.
    """
    double = [column for column, count in Counter(columns).items() if column and count > 1]
    if double:
        raise DataError(f"{name}, line 1: column {listed(double)} stands there twice: rename one")
