"""The tasks of a running form by name, of which others may be added and removed while calls run."""

import threading
from collections.abc import Mapping
from typing import Generic, TypeVar

from propetl.errors import TaskError

Entry = TypeVar("Entry")


class TaskTable(Generic[Entry]):
    """What a form keeps for each task. Safe to use from many threads at once.

    Args:
        tasks: those that are there from the start.
    """

    def __init__(self, tasks: Mapping[str, Entry]) -> None:
        # Never changed in place: a call reads this reference once and keeps what it found.
        self._tasks = dict(tasks)
        self._lock = threading.Lock()

    def names(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return tuple(self._tasks)

    def get(self, task: str) -> Entry:
        """What is kept for ``task`` now; :class:`TaskError` if it is not here."""
        return _entry(self._tasks, task)

    def holds(self, task: str, entry: Entry) -> bool:
        """Whether ``entry`` is what is kept for ``task`` now."""
        return self._tasks.get(task) is entry

    def add(self, task: str, entry: Entry) -> None:
        """Adds a task; :class:`TaskError` if its name is taken."""
        with self._lock:
            if task in self._tasks:
                raise TaskError(f"task {task!r} is in this session already; remove it first, or rename the new one")
            self._tasks = {**self._tasks, task: entry}

    def remove(self, task: str) -> Entry:
        """Forgets a task and returns what was kept for it; :class:`TaskError` if it is not here."""
        with self._lock:
            gone = _entry(self._tasks, task)
            self._tasks = {name: entry for name, entry in self._tasks.items() if name != task}
            return gone


def _entry(tasks: Mapping[str, Entry], task: str) -> Entry:
    if not isinstance(task, str) or task not in tasks:
        raise TaskError(f"task {task!r} is not in this session; it has {', '.join(sorted(tasks)) or 'none'}")
    return tasks[task]
