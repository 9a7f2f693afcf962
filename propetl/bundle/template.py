"""Several text columns joined to one text: a template, shared by training, export and the device."""

import re
from collections.abc import Sequence
from functools import lru_cache

_FIELD = re.compile(r"\{\{|\}\}|\{([^{}]*)\}|[{}]")


def joined(template: str, columns: tuple[str, ...], texts: Sequence[str]) -> str:
    """``template`` with each column's text in its place; the texts themselves are taken as they are.

    Args:
        template: ``{column}``, or ``{}`` for the next column; ``{{`` and ``}}`` are braces.
        columns: the task's text columns.
        texts: one for each column.
    """
    return "".join(part if isinstance(part, str) else texts[part] for part in parts_of(template, columns))


@lru_cache(maxsize=256)
def parts_of(template: str, columns: tuple[str, ...]) -> tuple[str | int, ...]:
    """Literal texts, and the number of the column that stands between them.

    Raises:
        ValueError: a column is missing or unknown, or braces do not match.
    """
    parts: list[str | int] = []
    end = following = 0
    for match in _FIELD.finditer(template):
        parts.append(template[end : match.start()])
        end = match.end()
        if match[0] in ("{{", "}}"):
            parts.append(match[0][0])
        elif match[1] is None:
            raise ValueError(f"template {template!r} has a single {match[0]!r}; write {match[0] * 2!r} for a brace")
        else:
            parts.append(_column(template, match[1], columns, following))
            following += not match[1]
    parts.append(template[end:])
    used = [part for part in parts if isinstance(part, int)]
    if following not in (0, len(used)):
        raise ValueError(f"template {template!r} mixes {{}} and names of columns; use one of them")
    if unused := [column for place, column in enumerate(columns) if place not in used]:
        raise ValueError(f"template {template!r} leaves out column {unused[0]!r}; write {{{unused[0]}}}")
    return tuple(part for part in parts if part != "")


def _column(template: str, name: str, columns: tuple[str, ...], following: int) -> int:
    if not name and following < len(columns):
        return following
    if name in columns:
        return columns.index(name)
    wrong = f"column {name!r}" if name else f"more than {len(columns)} {{}}"
    raise ValueError(f"template {template!r} has {wrong}; the columns are {', '.join(columns)}")
