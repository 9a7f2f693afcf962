"""Rows as callers give them: checked before anything is computed.

A row is a text, a pair of texts, as many texts as a template joins, or token ids; the task's columns say which.
"""

from collections.abc import Iterable, Mapping, Sequence, Set
from typing import Any, TypeVar

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.template import joined
from propetl.errors import ConfigurationError, TaskError
from propetl.runtime.cutting import Asked
from propetl.task import TaskSpec

Row = TypeVar("Row")

Text = str | tuple[str, ...]
"""One row of a single-sentence task, or a text for each column of another."""

TokenArrays = Mapping[str, NDArray[Any]]
"""Token ids ``[rows, sequence]`` by name; ``token_type_ids`` only where the model takes it; a mask may be boolean."""

_MASK = "attention_mask"
_LARGEST_ID = (1 << 31) - 1


def check_text(task: str, info: TaskSpec, text: object, where: str) -> None:
    """Refuses a row that ``task`` cannot take; ``where`` names it: ``row 3`` (counted from 0) or ``line 7``.

    Raises:
        TaskError: one text where the task has two columns, or the other way round.
        ConfigurationError: not text, or blank.
    """
    parts = (text,) if isinstance(text, str) else text
    if not isinstance(parts, tuple | list) or not all(isinstance(part, str) for part in parts):
        raise ConfigurationError(f"{where}: expected a text or a pair of texts, found {_kind(text)}")
    if len(parts) != len(info.columns):
        wanted = {1: "one text", 2: "a pair of texts"}.get(len(info.columns), f"{len(info.columns)} texts")
        columns = ", ".join(info.columns)
        raise TaskError(f"{where}: task {task!r} takes {wanted} ({columns}), found {len(parts)}")
    for column, part in zip(info.columns, parts, strict=True):
        if not part.strip():
            raise ConfigurationError(f"{where}: {column} is blank; give some text, or leave the row out")
        if not _encodes(part):
            raise ConfigurationError(f"{where}: {column} is not valid Unicode (lone surrogate); clean it")


def checked_texts(task: str, info: TaskSpec, texts: Iterable[Text]) -> list[Text]:
    """Rows as a list, each of which ``task`` can take; no rows at all is an error too.

    Args:
        task: its name.
        info: problem, labels, columns.
        texts: anything that gives rows in an order of its own: a list, a tuple, an array of numpy's, a column of
            pandas, a generator. Pairs may be rows of an array.

    Raises:
        ConfigurationError: a single text, a table, a set; or as for :func:`check_text`.
        TaskError: as for :func:`check_text`.
    """
    found = [_plain(text) for text in in_order(texts, f"task {task!r}: expected a list of texts")]
    if not found:
        raise ConfigurationError(f"task {task!r}: no rows were given; give at least one text")
    for row, text in enumerate(found):
        check_text(task, info, text, f"row {row}")
    return found


def tasks_and_texts(rows: Iterable[tuple[str, Text]]) -> list[tuple[str, Text]]:
    """Rows ``(task, text)`` as a list; the texts are not checked yet.

    Raises:
        ConfigurationError: no rows, or one that is not a task and a text.
    """
    found = in_order(rows, "expected a list of rows (task, text)")
    if not found:
        raise ConfigurationError("no rows were given; give at least one (task, text)")
    return [_task_and_text(row, f"row {index}") for index, row in enumerate(found)]


def _task_and_text(row: Any, where: str) -> tuple[str, Text]:
    whole = isinstance(row, tuple | list) or (isinstance(row, np.ndarray) and row.ndim == 1)
    if not whole or len(row) != 2 or not isinstance(row[0], str):
        raise ConfigurationError(f"{where}: expected (task, text), found {_kind(row)}")
    return str(row[0]), _plain(row[1])


def in_order(rows: Iterable[Row], expected: str) -> list[Row]:
    """``rows`` as a list; refuses what has no rows, or none in an order. ``expected`` begins the message."""
    names_columns = hasattr(rows, "columns")  # a table gives the names of its columns
    unordered = isinstance(rows, Set | Mapping)
    if isinstance(rows, str | bytes | bytearray) or names_columns or unordered or not _gives_rows(rows):
        raise ConfigurationError(f"{expected}, found {_kind(rows)}")
    return list(rows)


def _gives_rows(rows: object) -> bool:
    return isinstance(rows, Iterable) and getattr(rows, "ndim", 1) > 0


def _plain(text: Any) -> Any:
    """A row in Python's own types, as far as it is one; the rest is left for :func:`check_text` to refuse."""
    if isinstance(text, str):
        return str(text)
    if isinstance(text, tuple | list) or (isinstance(text, np.ndarray) and text.ndim == 1):
        return tuple(str(part) if isinstance(part, str) else part for part in text)
    return text


def token_feeds(arrays: TokenArrays, inputs: Sequence[str]) -> dict[str, NDArray[np.int64]]:
    """Token ids as int64 ``[rows, sequence]``, for a model that takes ``inputs``.

    ``token_type_ids`` may be left out and are zero then. Ids are taken as they are: nothing is truncated.

    Raises:
        ConfigurationError: a missing or unknown input, no rows, a shape or dtype that does not fit, or a row
            with no token that is attended to.
    """
    allowed = set(inputs)
    missing = allowed - set(arrays) - {"token_type_ids"}
    if missing or set(arrays) - allowed:
        found = ", ".join(sorted(map(str, arrays))) or "none"
        raise ConfigurationError(f"token ids: the model takes {', '.join(inputs)}; found {found}")
    checked = {name: _checked(name, tensor) for name, tensor in arrays.items()}
    shape = checked["input_ids"].shape
    for name, tensor in checked.items():
        if tensor.shape != shape:
            raise ConfigurationError(f"token ids: {name} is {list(tensor.shape)}, input_ids is {list(shape)}")
    attended = checked["attention_mask"].any(axis=1)
    if not attended.all():
        row = int(attended.argmin())
        raise ConfigurationError(f"token ids: row {row} has no token with attention_mask 1; leave it out")
    return {name: checked.get(name, np.zeros(shape, dtype=np.int64)) for name in inputs}


def source_of(info: TaskSpec, text: Text) -> Text | Asked:
    """The row as it is tokenised: joined by the task's template and, for an answer in text, within its prompt."""
    parts = (text,) if isinstance(text, str) else tuple(text)
    if info.template is not None:
        parts = (joined(info.template, info.columns, parts),)
    return info.kind.source(info, parts)


def _checked(name: str, given: object) -> NDArray[np.int64]:
    try:
        tensor = np.asarray(given)
    except ValueError as error:
        raise ConfigurationError(f"token ids: {name} has rows of several lengths; pad them to one") from error
    if tensor.ndim != 2 or 0 in tensor.shape:
        found = list(tensor.shape)
        raise ConfigurationError(f"token ids: {name} is {found}, expected [rows, sequence], both at least 1")
    if not (np.issubdtype(tensor.dtype, np.integer) or (name == _MASK and tensor.dtype == np.bool_)):
        raise ConfigurationError(f"token ids: {name} is {tensor.dtype}, expected integers")
    largest = 1 if name == _MASK else _LARGEST_ID
    for number in (int(tensor.min()), int(tensor.max())):
        if not 0 <= number <= largest:
            raise ConfigurationError(f"token ids: {name} has {number}; its numbers are from 0 to {largest}")
    return np.ascontiguousarray(tensor, dtype=np.int64)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
