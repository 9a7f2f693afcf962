"""The configuration as a run follows it: defaults that depend on method, data and processes filled in."""

from typing import Any

from propetl.training.config import TrainConfig
from propetl.training.schedule import Schedule

BY_DATA = frozenset({"shards", "max_steps", "eval_every", "save_every"})
"""Keys whose defaults are known once the rows are read and the processes have met."""


def settled_before_data(config: TrainConfig) -> dict[str, Any]:
    """JSON-able, without the keys that have no value; those of :data:`BY_DATA` may be left out."""
    values = {**config.to_json(), "learning_rate": config.rate, "score_learning_rate": config.score_rate}
    # A task that is known by name has no definition.
    tasks = {name: {} if definition is None else definition for name, definition in values["tasks"].items()}
    return {key: value for key, value in {**values, "tasks": tasks}.items() if value is not None}


def settled(config: TrainConfig, schedule: Schedule, shards: int) -> dict[str, Any]:
    """:func:`settled_before_data` with every default: a configuration that trains the same again."""
    steps = {name: getattr(schedule, name) for name in BY_DATA - {"shards"}}
    return {**settled_before_data(config), **steps, "shards": shards}
