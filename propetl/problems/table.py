"""Columns of the table that ``propetl predict`` prints: imported where one is made, and not for a first answer."""

from dataclasses import dataclass


@dataclass(frozen=True)
class Column:
    """A column of the table that ``propetl predict`` prints.

    Attributes:
        title: in its first line.
        style: of rich.
        number: whether it holds numbers, which stand at the right.
        folds: whether long texts go on in the next line.
    """

    title: str
    style: str | None = None
    number: bool = False
    folds: bool = False


def numbers(*titles: str) -> list[Column]:
    """Columns of numbers."""
    return [Column(title, number=True) for title in titles]


def number(value: float | None) -> str:
    """A number in a cell."""
    return "–" if value is None else f"{value:.4f}"
