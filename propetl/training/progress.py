"""What a run's log history says of how far it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from propetl.training.evaluate import AVERAGE

History = Sequence[Mapping[str, Any]]


def stopped_early(history: History, best_step: int | None, patience: int | None) -> bool:
    """Whether ``patience`` evaluations have passed since the best one.

    Counted from the log, which a checkpoint holds, so that a resumed run decides as an undisturbed one.
    """
    if patience is None or best_step is None:
        return False
    return sum(1 for entry in history if AVERAGE in entry and entry["step"] > best_step) >= patience


def is_done(state: Mapping[str, Any], max_steps: int, patience: int | None) -> bool:
    """Whether the run whose checkpoint holds ``state`` has nothing left to train."""
    early = stopped_early(state["log_history"], state["best_global_step"], patience)
    return early or state["global_step"] >= max_steps


def best_evaluation(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The log entry of the best evaluation."""
    best: list[Mapping[str, Any]] = [
        entry for entry in state["log_history"] if AVERAGE in entry and entry["step"] == state["best_global_step"]
    ]
    return best[-1]
