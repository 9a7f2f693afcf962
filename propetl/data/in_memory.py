"""Rows that are in memory already. Labels say by their type what they are: a text is a name, an integer an index."""

from collections.abc import Iterable
from numbers import Integral, Real
from typing import Any

from propetl.data.cell_values import LARGEST
from propetl.data.table import shown
from propetl.data.tables import Rows, label_array
from propetl.errors import DataError
from propetl.nearest import did_you_mean
from propetl.runtime.rows import Text, checked_texts, in_order
from propetl.task import TaskSpec

SOURCE = "memory"


def rows_of(spec: TaskSpec, texts: Iterable[Text], labels: Iterable[Any] | None) -> Rows:
    """Checked rows of a task.

    Args:
        spec: the task.
        texts: a text, or a text for each of its columns, for each row; of a tagging, words with blanks between.
        labels: a class name or index, a value, a text to generate, or a list of tag names, for each row. None where
            there are none: the rows get any.

    Raises:
        ConfigurationError, TaskError: texts that the task cannot take.
        DataError: naming the row whose label it cannot.
    """
    found = [(text,) if isinstance(text, str) else tuple(text) for text in checked_texts(spec.name, spec, texts)]
    if labels is None:
        return Rows(found, label_array([spec.asks.any_label(spec, row) for row in found]), SOURCE)
    given = in_order(labels, f"task {spec.name!r}: expected a list of labels")
    if len(given) != len(found):
        raise DataError(f"task {spec.name!r}: {len(found)} texts and {len(given)} labels: give each text its label")
    pairs = enumerate(zip(found, given, strict=True))
    read = [spec.asks.given_label(spec, row, label, f"row {place}") for place, (row, label) in pairs]
    return Rows(found, label_array(read, spec.asks.label_type), SOURCE)


def text_given(spec: TaskSpec, label: Any, where: str) -> str:
    """A text to generate."""
    if not isinstance(label, str) or not label.strip():
        raise DataError(f"task {spec.name!r}, {where}: expected a text to generate, found {shown(label)}")
    return str(label)


def tags_given(spec: TaskSpec, words: int, label: Any, where: str) -> tuple[str, ...]:
    """A tag for each of ``words`` words."""
    if isinstance(label, str) or not isinstance(label, Iterable):
        raise DataError(f"task {spec.name!r}, {where}: expected a list of tags, found {shown(label)}")
    tags = [spec.labels[class_given(spec, tag, f"{where}, word {place}")] for place, tag in enumerate(label, start=1)]
    if len(tags) != words:
        raise DataError(f"task {spec.name!r}, {where}: {words} words and {len(tags)} tags: give each word its tag")
    return tuple(tags)


def class_given(spec: TaskSpec, label: Any, where: str) -> int:
    """The index of a class, by its name or index."""
    if isinstance(label, str) and label in spec.labels:
        return spec.labels.index(label)
    is_index = isinstance(label, Integral) and not isinstance(label, bool)
    if is_index and 0 <= int(label) < len(spec.labels):
        return int(label)
    hint = did_you_mean(label, spec.labels) if isinstance(label, str) else ""
    allowed = ", ".join(spec.labels[:10]) + (", ..." if len(spec.labels) > 10 else "")
    raise DataError(
        f"task {spec.name!r}, {where}: label {shown(label)} is unknown: give one of {allowed}, or an index from 0 to "
        f"{len(spec.labels) - 1}{hint}"
    )


def value_given(spec: TaskSpec, label: Any, where: str) -> float:
    """A finite number."""
    if isinstance(label, bool) or not isinstance(label, Real) or not abs(float(label)) <= LARGEST:
        raise DataError(f"task {spec.name!r}, {where}: label {shown(label)} is not a finite number")
    return float(label)
