"""Rows as callers give them: checked before anything is computed.

A row is a text, a pair of texts, or token ids; which of the first two is a matter of the task's columns.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import TaskInfo
from propetl.errors import ConfigurationError, TaskError

Text = str | tuple[str, str]
"""One row of a single-sentence task, or one of a pair task."""

TokenArrays = Mapping[str, NDArray[Any]]
"""Token ids ``[rows, sequence]`` by name; ``token_type_ids`` only where the model takes it."""


def check_text(task: str, info: TaskInfo, text: object, where: str) -> None:
    """Refuses a row that ``task`` cannot take; ``where`` names it: ``row 3`` (counted from 0) or ``line 7``.

    Raises:
        TaskError: one text where the task has two columns, or the other way round.
        ConfigurationError: not text, or blank.
    """
    parts = (text,) if isinstance(text, str) else text
    if not isinstance(parts, tuple | list) or not all(isinstance(part, str) for part in parts):
        raise ConfigurationError(f"{where}: expected a text or a pair of texts, found {_kind(text)}")
    if len(parts) != len(info.columns):
        wanted = "a pair of texts" if len(info.columns) == 2 else "one text"
        columns = ", ".join(info.columns)
        raise TaskError(f"{where}: task {task!r} takes {wanted} ({columns}), found {len(parts)}")
    for column, part in zip(info.columns, parts, strict=True):
        if not part.strip():
            raise ConfigurationError(f"{where}: {column} is blank; give some text, or leave the row out")
        if not _encodes(part):
            raise ConfigurationError(f"{where}: {column} is not valid Unicode (lone surrogate); clean it")


def check_texts(task: str, info: TaskInfo, texts: Sequence[Text]) -> None:
    """:func:`check_text` for every row; no rows at all is an error too."""
    if isinstance(texts, str) or not isinstance(texts, Sequence):
        raise ConfigurationError(f"task {task!r}: expected a list of texts, found {_kind(texts)}")
    if not texts:
        raise ConfigurationError(f"task {task!r}: no rows were given; give at least one text")
    for row, text in enumerate(texts):
        check_text(task, info, text, f"row {row}")


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
        found = ", ".join(sorted(arrays)) or "none"
        raise ConfigurationError(f"token ids: the model takes {', '.join(inputs)}; found {found}")
    checked = {name: _checked(name, np.asarray(tensor)) for name, tensor in arrays.items()}
    shape = checked["input_ids"].shape
    for name, tensor in checked.items():
        if tensor.shape != shape:
            raise ConfigurationError(f"token ids: {name} is {list(tensor.shape)}, input_ids is {list(shape)}")
    attended = checked["attention_mask"].any(axis=1)
    if not attended.all():
        row = int(attended.argmin())
        raise ConfigurationError(f"token ids: row {row} has no token with attention_mask 1; leave it out")
    return {name: checked.get(name, np.zeros(shape, dtype=np.int64)) for name in inputs}


def source_of(info: TaskInfo, text: Text) -> Text:
    """What is tokenised: the row itself, or for an answer in text the prompt with the row in it."""
    if info.text is None:
        return text
    return info.text.source((text,) if isinstance(text, str) else text)


def _checked(name: str, tensor: NDArray[Any]) -> NDArray[np.int64]:
    if tensor.ndim != 2 or 0 in tensor.shape:
        found = list(tensor.shape)
        raise ConfigurationError(f"token ids: {name} is {found}, expected [rows, sequence], both at least 1")
    if not np.issubdtype(tensor.dtype, np.integer):
        raise ConfigurationError(f"token ids: {name} is {tensor.dtype}, expected integers")
    if tensor.min() < 0:
        raise ConfigurationError(f"token ids: {name} has {int(tensor.min())}; ids are not negative")
    return np.ascontiguousarray(tensor, dtype=np.int64)


def _encodes(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _kind(value: object) -> str:
    return f"{type(value).__name__} {str(value)[:40]!r}"
