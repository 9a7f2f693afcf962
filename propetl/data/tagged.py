"""Rows of words and tags: lists, as JSONL, Parquet, the hub and CoNLL columns give them, or texts with blanks."""

from collections.abc import Sequence
from typing import Any

from propetl.bundle.words import is_word, word_spans
from propetl.data.columns import Cells
from propetl.data.label_values import LabelValue, label_value
from propetl.data.table import Record, Table, is_unicode, shown


def tagged_row(table: Table, row: Cells, known: Sequence[str]) -> tuple[str, tuple[LabelValue, ...]]:
    """The words of a record with blanks between them, and their tags as they stand there.

    Args:
        table: that the row is of.
        row: words, and tags as its label.
        known: spellings of tags, as for :func:`label_value`.

    Raises:
        DataError: words and tags are not as many, or a word or a tag is none.
    """
    record = row.record
    words, tags = (_parts(table, record, value) for value in (row.texts[0], row.label))
    if not words:
        raise table.wrong(record, "a sentence has no words: leave the row out")
    if len(words) != len(tags):
        raise table.wrong(record, f"{len(words)} words and {len(tags)} tags: give each word its tag")
    for place, word in enumerate(words, start=1):
        if not is_word(word) or not is_unicode(word):
            raise table.wrong(record, f"word {place}, {shown(word)}, is none: a word is text without blanks")
    found = [label_value(tag, known, row.names) for tag in tags]
    if None in found:
        raise table.wrong(record, f"word {found.index(None) + 1}, {shown(words[found.index(None)])}, has no tag")
    return " ".join(words), tuple(value for value in found if value is not None)


def _parts(table: Table, record: Record, value: object) -> Sequence[Any]:
    if isinstance(value, str):
        return [value[start:end] for start, end in word_spans(value)]
    if not isinstance(value, list):
        raise table.wrong(record, f"a list of words or tags expected, found {shown(value)}")
    return value
