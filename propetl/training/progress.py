"""What a run's log history says of how far it is."""

from collections.abc import Mapping, Sequence
from typing import Any

from propetl.training.evaluate import AVERAGE
from propetl.training.schedule import Schedule

History = Sequence[Mapping[str, Any]]


def stopped_early(history: History, patience: int | None) -> bool:
    """Whether ``patience`` evaluations have passed since the best score was first reached.

    Counted from the log, which a checkpoint holds, so that a resumed run decides as an undisturbed one.
    """
    averages = [entry[AVERAGE] for entry in history if AVERAGE in entry]
    if patience is None or not averages:
        return False
    return len(averages) - 1 - averages.index(max(averages)) >= patience


def evaluation_is_due(history: History, step: int, max_steps: int, eval_every: int) -> bool:
    """Whether ``step`` is one to evaluate after, and was not: the run was stopped while it evaluated."""
    wanted = step > 0 and (step % eval_every == 0 or step >= max_steps)
    return wanted and not any(AVERAGE in entry and entry["step"] == step for entry in history)


def is_done(state: Mapping[str, Any], schedule: Schedule, patience: int | None) -> bool:
    """Whether the run whose checkpoint holds ``state`` has nothing left to train or to evaluate."""
    history, step = state["log_history"], state["global_step"]
    if evaluation_is_due(history, step, schedule.max_steps, schedule.eval_every):
        return False
    return stopped_early(history, patience) or step >= schedule.max_steps


def best_evaluation(state: Mapping[str, Any]) -> Mapping[str, Any]:
    """The log entry of the best evaluation."""
    best: list[Mapping[str, Any]] = [
        entry for entry in state["log_history"] if AVERAGE in entry and entry["step"] == state["best_global_step"]
    ]
    return best[-1]
