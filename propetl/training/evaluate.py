"""Scores of every task on its development rows, the work shared by all processes."""

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from propetl.bundle.words import at_words, tags_of
from propetl.data.metrics import check_finite, compute
from propetl.data.tables import label_array
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


def _scores(
    model: nn.Module, task: TrainingTask, batch_size: int, processes: Processes, asked: Asked
) -> dict[str, float]:
    batches = list(task.dev.by_length(batch_size))
    answer = _answers if task.spec.text is not None else _tags if task.spec.problem == "tagging" else _logits
    mine = []
    for places in batches[processes.index :: processes.count]:
        mine.append((places, answer(model, task, places)))
        if asked():
            break
    if processes.largest(asked()):
        raise BrokenOff
    found = [part for parts in processes.gather(mine) for part in parts]
    first = found[0][1]
    predictions = np.zeros((len(task.dev), *first.shape[1:]), dtype=first.dtype)
    for places, values in found:
        predictions[places] = values
    return compute(task.spec.metrics, predictions, task.dev.labels)


@torch.no_grad()
def _logits(model: nn.Module, task: TrainingTask, places: list[int]) -> NDArray[Any]:
    """Float ``[rows, outputs]``, or ``[rows, longest, outputs]`` of tags."""
    logits: NDArray[Any] = model(task=task.spec.name, **_inputs(model, task, places)).logits.float().cpu().numpy()
    return logits


def _tags(model: nn.Module, task: TrainingTask, places: list[int]) -> NDArray[Any]:
    """A tuple of its words' tags for each of ``[rows]``."""
    logits, words = _logits(model, task, places), task.dev.rows.places
    assert words is not None
    check_finite(logits)
    found = [at_words(row, words[place]) for row, place in zip(logits, places, strict=True)]
    return label_array([tags_of(row, task.spec.labels) for row in found])


def _answers(model: Any, task: TrainingTask, places: list[int]) -> NDArray[Any]:
    """Classes, values or texts ``[rows]`` that were generated."""
    text = task.spec.text
    assert text is not None
    ids = model.generate(task.spec.name, _inputs(model, task, places)).tolist()
    answers = [text.answer(answer) for answer in task.decode(ids)]
    return np.array(answers, dtype=object if task.spec.asks == "text" else None)


def _inputs(model: nn.Module, task: TrainingTask, places: list[int]) -> dict[str, Tensor]:
    device = next(model.parameters()).device
    batch = task.dev.batch(places)
    return {name: value.to(device) for name, value in batch.items() if name not in ("task", "labels")}
