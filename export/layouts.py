"""Where the tasks of an export answer, which decides what graphs they can share. Nothing else asks for ``kind.at``."""

from collections.abc import Iterable, Mapping

from propetl.problems import Where
from propetl.task import TaskSpec

ROW: Where = "row"
TOKEN: Where = "token"
TEXT: Where = "text"


def by_place(tasks: Mapping[str, TaskSpec]) -> dict[Where, list[str]]:
    """Names of ``tasks`` by where they answer."""
    found: dict[Where, list[str]] = {}
    for name, info in tasks.items():
        found.setdefault(info.kind.at, []).append(name)
    return found


def shared_place(tasks: Iterable[TaskSpec]) -> Where:
    """Where a graph for any of ``tasks``, which have heads, answers: the logits of a row are among those of tokens."""
    return TOKEN if any(info.kind.at == TOKEN for info in tasks) else ROW
