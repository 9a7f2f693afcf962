"""Texts, labels and numbers out of a table's cells, refused where they cannot be meant."""

from collections.abc import Sequence

import numpy as np

from propetl.data.columns import Cells
from propetl.data.label_values import NUMBER, LabelValue, label_value
from propetl.data.table import Record, Table, is_unicode, shown

LARGEST = float(np.finfo(np.float32).max)


def text_in(table: Table, record: Record, text: object) -> str:
    """The text of a cell."""
    if not isinstance(text, str):
        raise table.wrong(record, f"text expected, found {shown(text)}: write it as text")
    if not text.strip():
        raise table.wrong(record, "a text is empty: fill it in or leave the row out")
    if not is_unicode(text):
        raise table.wrong(record, "a text is not UTF-8 (half of a surrogate pair): repair or leave it out")
    return text


def label_in(table: Table, row: Cells, known: Sequence[str]) -> LabelValue:
    """The label of a row as it is written; ``known`` as for :func:`label_value`."""
    value = label_value(row.label, known, row.names)
    if value is None:
        raise table.wrong(row.record, "the label is empty: fill it in or leave the row out")
    return value


def number_in(table: Table, row: Cells, known: Sequence[str]) -> float:
    """The label of a row as a number."""
    value = label_in(table, row, known).text
    if not NUMBER.fullmatch(value) or abs(float(value)) > LARGEST:
        raise table.wrong(row.record, f"label {shown(value)} is not a finite number: a regression needs one")
    return float(value)
