"""Reads columns in the manner of the CoNLL tasks: a word and its tags on each line, a blank line between sentences."""

import re
from collections.abc import Iterator
from itertools import groupby
from pathlib import Path

from propetl.data.table import Record, Sought, Table
from propetl.data.text_file import lines_of, text_of
from propetl.errors import DataError

WORDS, TAGS = "tokens", "tags"
"""Names of the first column and the last; those between are called by their numbers, from ``2``."""

_BLANKS = re.compile(r"[ \t]+")
_DOCUMENT = "-DOCSTART-"  # CoNLL-2003 marks documents by a sentence of this one word

Line = tuple[int, list[str]]


def read_conll(path: Path, sought: Sought) -> Table:
    """A record is a sentence, its values are lists; it is numbered by its first line."""
    text = text_of(path)
    sentences = (Record(number, columns) for number, columns in conll_sentences(path, text))
    return Table(str(path), "line", conll_columns(path, text), sentences)


def conll_columns(path: Path, text: str) -> tuple[str, ...]:
    """Names of the columns, as many as the first sentence's first line has.

    Raises:
        DataError: there is one column alone.
    """
    number, first = next(_lines(text))
    if len(first) < 2:
        raise DataError(f"{path}, line {number}: one column: write a word and its tag on each line")
    return (WORDS, *(str(place) for place in range(2, len(first))), TAGS)


def conll_sentences(path: Path, text: str) -> Iterator[tuple[int, tuple[list[str], ...]]]:
    """Each sentence: the number of its first line, and its columns.

    Raises:
        DataError: a line has more or fewer columns than the first.
    """
    width = len(conll_columns(path, text))
    for filled, group in groupby(_lines(text, blank_too=True), key=lambda line: bool(line[1])):
        lines = list(group)
        if filled and lines[0][1][0] != _DOCUMENT:
            yield lines[0][0], _columns(path, lines, width)


def _lines(text: str, *, blank_too: bool = False) -> Iterator[Line]:
    """Number and fields of each line; a blank one has none."""
    for number, line in enumerate(lines_of(text), start=1):
        fields = [field for field in _BLANKS.split(line) if field]
        if fields or blank_too:
            yield number, fields


def _columns(path: Path, lines: list[Line], width: int) -> tuple[list[str], ...]:
    for number, fields in lines:
        if len(fields) != width:
            raise DataError(
                f"{path}, line {number}: {len(fields)} columns where the first line has {width}; "
                "blanks and tabs separate them"
            )
    return tuple(map(list, zip(*(fields for _, fields in lines), strict=True)))
