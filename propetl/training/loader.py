"""From the rows of all tasks to the batches that the Trainer gets."""

from collections.abc import Sequence
from typing import Any

import torch
from torch.utils.data import DataLoader, Dataset

from propetl.training.config import TrainConfig
from propetl.training.processes import Processes
from propetl.training.sampler import Row, TaskBatchSampler
from propetl.training.tasks import Batch, Split, TrainingTask

Shards = dict[str, list[Batch]]
"""``{"shards": [...]}``: this process's shards of one batch."""


class JointRows(Dataset[Any]):
    """The rows of all tasks, addressed by (task, row); the collator reads them."""

    def __init__(self, splits: Sequence[Split], shards: int) -> None:
        """``shards``: in how many of them this process computes its part of a batch."""
        self.splits = list(splits)
        self.shards = shards

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    def __getitem__(self, place: Row) -> Row:
        return place

    def collate(self, places: Sequence[Row]) -> Shards:
        """One batch, all of whose ``places`` are of one task; every shard is padded for itself."""
        split = self.splits[places[0][0]]
        size = len(places) // self.shards
        rows = [row for _, row in places]
        return {"shards": [split.batch(rows[start : start + size]) for start in range(0, len(rows), size)]}


class EpochLoader(DataLoader[Any]):
    """A loader that tells its batch sampler which epoch begins, as the Trainer expects of it."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration yields."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


def joint_loader(tasks: Sequence[TrainingTask], config: TrainConfig, processes: Processes) -> EpochLoader:
    """This process's part of every batch, in shards."""
    rows = JointRows([task.train for task in tasks], shards_of(config, processes) // processes.count)
    # A generator of its own keeps the loader from drawing from the global one.
    return EpochLoader(
        rows,
        batch_sampler=joint_sampler(tasks, config, processes),
        collate_fn=rows.collate,
        generator=torch.Generator(),
    )


def joint_sampler(tasks: Sequence[TrainingTask], config: TrainConfig, processes: Processes) -> TaskBatchSampler:
    """The batches of a run, as this process sees them."""
    return TaskBatchSampler(
        [task.train.lengths for task in tasks],
        config.batch_size,
        config.seed,
        temperature=config.temperature,
        group_by_length=config.group_by_length,
        process=processes.index,
        processes=processes.count,
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
