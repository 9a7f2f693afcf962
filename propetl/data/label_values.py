"""A label as it stands in a file, and how near two spellings of a name are."""

import re
import unicodedata
from collections.abc import Collection, Sequence
from dataclasses import dataclass
from decimal import Decimal
from math import isnan
from typing import Any

from propetl.task import plain

NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)([eE][+-]?[0-9]+)?")

_INDEX = re.compile(r"0|[1-9][0-9]{0,8}")


@dataclass(frozen=True, slots=True)
class LabelValue:
    """One value of a label column.

    Attributes:
        text: as it stands there, in the one spelling that :func:`plain` gives.
        number: where the data itself names its numbers: the number that ``text`` is the name of, or is itself if it
            has none.
    """

    text: str
    number: int | None = None


def label_value(raw: Any, known: Collection[str], names: Sequence[str] = ()) -> LabelValue | None:
    """The value as it stands in the file; None for nothing.

    Args:
        raw: as the reader gives it: text, number, truth value or null.
        known: all spellings that the task knows; a truth value takes the one among them that is its own.
        names: the data's own names for numbers.
    """
    if raw is None or (isinstance(raw, float | Decimal) and isnan(raw)):
        return None
    if isinstance(raw, bool):
        text = str(raw).lower()
        return LabelValue(next((name for name in known if name.lower() == text), text))
    text = plain(str(raw))
    is_number = _INDEX.fullmatch(text) and not (isinstance(raw, str) and text in names)
    if names and is_number:
        number = int(text)
        return LabelValue(plain(names[number]) if number < len(names) else text, number)
    return LabelValue(text) if text else None


def index_of(text: str, count: int) -> int | None:
    """The class index that ``text`` is, among ``count`` classes."""
    return int(text) if _INDEX.fullmatch(text) and int(text) < count else None


def number_of(text: str) -> float | None:
    """The number that a class name writes, also as ``01`` or ``1e0``."""
    return float(text) if NUMBER.fullmatch(text) else None


def near(text: str, names: Collection[str]) -> str | None:
    """The one of ``names`` that differs from ``text`` only in case, blanks, dashes, underscores or Unicode form."""
    return next((name for name in names if folded(name) == folded(text)), None)


def folded(text: str) -> str:
    """Equal for spellings that are taken for one another."""
    return re.sub(r"[\s_-]+", "", unicodedata.normalize("NFKC", text).casefold())
