"""Batches for joint training: one task per batch, tasks in proportion to their data."""

import math
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

Row = tuple[int, int]
"""A row of the joint data: (index of the task, row of the task)."""

_ROWS, _ORDER = 0, 1  # streams of random numbers, so that no two draws share one
_BATCHES_SORTED_TOGETHER = 16


class TaskBatchSampler(Sampler[list[Row]]):
    """Yields this process's part of every batch of an epoch.

    An epoch holds ``ceil(rows / batch_size)`` batches of each task, in one shuffled order. Every batch is
    full: a task's last one is filled up from the start of its permutation. The order is a function of seed
    and epoch alone, so it is the same in every process and after a resume; process ``r`` of ``N`` takes the
    r-th part of each batch.

    Args:
        lengths: tokens of each row, by task.
        batch_size: rows per batch over all processes; a multiple of ``processes``.
        seed: of the order.
        group_by_length: sort runs of 16 batches by length before cutting them, so that a batch pads little.
        process: index of this process.
        processes: how many there are.
    """

    def __init__(
        self,
        lengths: Sequence[NDArray[np.int64]],
        batch_size: int,
        seed: int,
        *,
        group_by_length: bool = False,
        process: int = 0,
        processes: int = 1,
    ) -> None:
        if not all(map(len, lengths)) or batch_size % processes:
            raise ValueError(f"every task needs rows, and {batch_size} has to be a multiple of {processes}")
        self.lengths = list(lengths)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.epoch = 0
        part = batch_size // processes
        self._part = slice(process * part, (process + 1) * part)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(map(self._batches_of, range(len(self.lengths))))

    def __iter__(self) -> Iterator[list[Row]]:
        batches = [iter(self._task_batches(task)) for task in range(len(self.lengths))]
        for task in self._task_order():
            yield [(task, row) for row in next(batches[task])[self._part].tolist()]

    def _batches_of(self, task: int) -> int:
        return math.ceil(len(self.lengths[task]) / self.batch_size)

    def _task_batches(self, task: int) -> NDArray[Any]:
        """The epoch's rows of one task, ``[batches, batch_size]``."""
        generator = self._generator(_ROWS, task)
        batches = self._batches_of(task)
        order = np.resize(generator.permutation(len(self.lengths[task])), batches * self.batch_size)
        if not self.group_by_length:
            return order.reshape(batches, self.batch_size)
        grouped = self._sorted_in_runs(order, self.lengths[task]).reshape(batches, self.batch_size)
        return generator.permutation(grouped)  # runs are sorted, so the batches are not in random order

    def _sorted_in_runs(self, order: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
        size = _BATCHES_SORTED_TOGETHER * self.batch_size
        runs = [order[start : start + size] for start in range(0, len(order), size)]
        return np.concatenate([run[np.argsort(lengths[run], kind="stable")] for run in runs])

    def _task_order(self) -> list[int]:
        tasks = [task for task in range(len(self.lengths)) for _ in range(self._batches_of(task))]
        order: list[int] = self._generator(_ORDER).permutation(tasks).tolist()
        return order

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, *stream])
