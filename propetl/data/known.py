"""The tasks of a configuration: those known by name and those that it defines."""

from collections.abc import Mapping
from dataclasses import replace
from typing import Any

from propetl.data.generated import GENERATED
from propetl.data.own_task import language_of
from propetl.data.tasks import TASKS
from propetl.errors import ConfigurationError
from propetl.nearest import did_you_mean
from propetl.task import TaskSpec


def known_tasks() -> dict[str, TaskSpec]:
    """The tasks that need no definition: GLUE's and the generated ones."""
    return {**TASKS, **GENERATED}


def specs_of(tasks: Mapping[str, dict[str, Any] | None]) -> dict[str, TaskSpec]:
    """The tasks of a configuration by name.

    Raises:
        ConfigurationError: a definition is wrong, or a task has none and is neither GLUE's nor generated.
    """
    return {name: _spec(name, definition) for name, definition in tasks.items()}


def _spec(name: str, definition: dict[str, Any] | None) -> TaskSpec:
    known = known_tasks()
    if definition is not None and set(definition) <= {"language"} and name in known:
        return replace(known[name], language=language_of(name, definition))
    if definition is not None:
        return TaskSpec.from_mapping(name, definition)
    if name not in known:
        raise ConfigurationError(
            f"tasks: {name!r} has no definition (columns, labels, metrics) and is none of {', '.join(known)}"
            f"{did_you_mean(name, known)}"
        )
    return known[name]
