"""Scores of every task on its development rows, the work shared by all processes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from propetl.data.metrics import compute
from propetl.training.processes import Processes
from propetl.training.tasks import TrainingTask

Asked = Callable[[], int]

AVERAGE = "eval_average"
"""Mean of the tasks' main metrics: the best checkpoint is chosen by it."""


class BrokenOff(Exception):
    """An evaluation was asked to stop, in all processes."""


def evaluate_tasks(
    model: nn.Module,
    tasks: Sequence[TrainingTask],
    batch_size: int,
    processes: Processes,
    asked: Asked = lambda: 0,
) -> dict[str, dict[str, float]]:
    """Metrics by task, the same in every process.

    Batches are the same whatever the number of processes; process ``r`` of ``N`` runs every N-th of them.

    Args:
        model: that answers.
        tasks: with their development rows.
        batch_size: rows of a batch.
        processes: that share the work.
        asked: called after every batch; once it is not 0 in any process, the evaluation ends.

    Raises:
        BrokenOff: it was asked to end.
    """
    was_training = model.training
    model.eval()
    try:
        return {task.spec.name: _scores(model, task, batch_size, processes, asked) for task in tasks}
    finally:
        model.train(was_training)


def eval_log(scores: dict[str, dict[str, float]], tasks: Iterable[TrainingTask]) -> dict[str, float]:
    """The flat form that the Trainer logs: ``eval_<task>_<metric>`` and the average of the main metrics."""
    main = [scores[task.spec.name][task.spec.metrics[0]] for task in tasks]
    flat = {f"eval_{task}_{metric}": value for task, values in scores.items() for metric, value in values.items()}
    return {AVERAGE: float(np.mean(main)), **flat}


def scores_in_log(entry: Mapping[str, Any], tasks: Iterable[TrainingTask]) -> dict[str, dict[str, float]]:
    """Inverse of :func:`eval_log`."""
    return {
        task.spec.name: {metric: entry[f"eval_{task.spec.name}_{metric}"] for metric in task.spec.metrics}
        for task in tasks
    }


@torch.no_grad()
def _scores(
    model: nn.Module, task: TrainingTask, batch_size: int, processes: Processes, asked: Asked
) -> dict[str, float]:
    batches = list(task.dev.by_length(batch_size))
    labels = task.dev.labels
    mine = []
    for places in batches[processes.index :: processes.count]:
        answers = task.spec.kind.answers(
            model, task.spec.name, _inputs(model, task, places), task.dev.words(places), task.decode
        )
        mine.append((places, task.spec.kind.scored(task.spec, answers, labels[places])))
        if asked():
            break
    if processes.largest(asked()):
        raise BrokenOff
    found = [part for parts in processes.gather(mine) for part in parts]
    first = found[0][1]
    predictions = np.zeros((len(task.dev), *first.shape[1:]), dtype=first.dtype)
    for places, values in found:
        predictions[places] = values
    return compute(task.spec.metrics, predictions, labels)


def _inputs(model: nn.Module, task: TrainingTask, places: list[int]) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    batch = task.dev.batch(places)
    return {name: value.to(device) for name, value in batch.items() if name not in ("task", "labels")}
