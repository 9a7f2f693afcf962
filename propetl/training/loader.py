"""From the rows of all tasks to the batches that the Trainer gets."""

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from propetl.training.config import TrainConfig
from propetl.training.processes import Processes
from propetl.training.sampler import Row, TaskBatchSampler
from propetl.training.tasks import Split, TrainingTask

Part = dict[str, Any]
"""This process's part of one batch: its ``shards``, and of the whole batch ``task``, ``rows`` and ``targets``."""


class JointRows(Dataset[Any]):
    """The rows of all tasks, addressed by (task, row); the collator reads them."""

    def __init__(self, splits: Sequence[Split], shards: int, processes: Processes) -> None:
        """``shards``: in how many of them all processes together compute a batch."""
        self.splits = list(splits)
        self.shards = shards
        self.processes = processes

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    def __getitem__(self, place: Row) -> Row:
        return place

    def collate(self, places: Sequence[Row]) -> Part:
        """This process's part of a batch, all of whose ``places`` are of one task; every shard is padded for itself."""
        split = self.splits[places[0][0]]
        rows = [row for _, row in places]
        size = len(rows) // self.shards
        part = len(rows) // self.processes.count
        starts = range(self.processes.index * part, (self.processes.index + 1) * part, size)
        return {
            "shards": [split.batch(rows[start : start + size]) for start in starts],
            "task": split.task,
            "rows": len(rows),
            "targets": split.targets(rows),
        }


def loss_divisors(parts: Iterable[Part]) -> dict[str, float]:
    """By task, what its summed losses are divided by, so that they add up to the loss of an optimizer step.

    The loss of a step is, for each task, one mean over all of its targets (rows, or the tokens that have a label), and
    over tasks the mean weighted by their rows: a task with many tokens a row counts no more than another.

    Args:
        parts: of all batches of the step.
    """
    rows: Counter[str] = Counter()
    targets: Counter[str] = Counter()
    for part in parts:
        rows[part["task"]] += part["rows"]
        targets[part["task"]] += part["targets"]
    return {task: targets[task] * rows.total() / rows[task] for task in rows}


class EpochLoader(DataLoader[Any]):
    """A loader that tells its batch sampler which epoch begins, as the Trainer expects of it."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration yields."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


def joint_loader(tasks: Sequence[TrainingTask], config: TrainConfig, processes: Processes) -> EpochLoader:
    """This process's part of every batch, in shards."""
    rows = JointRows([task.train for task in tasks], shards_of(config, processes), processes)
    # A generator of its own keeps the loader from drawing from the global one.
    return EpochLoader(
        rows,
        batch_sampler=joint_sampler(tasks, config),
        collate_fn=rows.collate,
        generator=torch.Generator(),
    )


def joint_sampler(tasks: Sequence[TrainingTask], config: TrainConfig) -> TaskBatchSampler:
    """The batches of a run."""
    return TaskBatchSampler(
        [task.train.lengths for task in tasks],
        config.batch_size,
        config.seed,
        temperature=config.temperature,
        group_by_length=config.group_by_length,
    )


def shards_of(config: TrainConfig, processes: Processes) -> int:
    """In how many shards a batch is computed, over all processes.

    The configuration has been checked by :func:`propetl.training.arguments.processes_of`.
    """
    if config.shards is not None:
        return config.shards
    # Two cost a CPU nothing, and make one process learn what two do; a GPU would idle.
    pair = not processes.on_gpu and config.batch_size % 2 == 0 and 2 % processes.count == 0
    return 2 if pair else processes.count
