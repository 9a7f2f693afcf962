"""Batches for joint training: one task per batch, tasks in proportion to their data."""

import math
from collections.abc import Iterator, Sequence

import numpy as np
from torch.utils.data import Sampler

Row = tuple[int, int]
"""A row of the joint data: (index of the task, row of the task)."""

_ROWS, _ORDER = 0, 1  # streams of random numbers, so that no two draws share one


class TaskBatchSampler(Sampler[list[Row]]):
    """Yields this process's part of every batch of an epoch.

    An epoch holds ``ceil(rows / batch_size)`` batches of each task, in one shuffled order. Every batch is full:
    a task's last one is filled up from the start of its permutation. The order is a function of seed and epoch
    alone, so it is the same in every process and after a resume; process ``r`` of ``N`` takes the r-th part of
    each batch.

    Args:
        sizes: rows of each task.
        batch_size: rows per batch over all processes; a multiple of ``processes``.
        seed: of the order.
        process: index of this process.
        processes: how many there are.
    """

    def __init__(
        self, sizes: Sequence[int], batch_size: int, seed: int, process: int = 0, processes: int = 1
    ) -> None:
        if min(sizes) < 1 or batch_size % processes:
            raise ValueError(
                f"sizes {list(sizes)} must be positive, and {batch_size} a multiple of {processes}"
            )
        self.sizes = tuple(sizes)
        self.batch_size = batch_size
        self.seed = seed
        self.epoch = 0
        part = batch_size // processes
        self._part = slice(process * part, (process + 1) * part)

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self._batches_of(task) for task in range(len(self.sizes)))

    def __iter__(self) -> Iterator[list[Row]]:
        batches = {task: self._task_batches(task) for task in range(len(self.sizes))}
        for task in self._task_order():
            yield [(task, row) for row in next(batches[task])[self._part].tolist()]

    def _batches_of(self, task: int) -> int:
        return math.ceil(self.sizes[task] / self.batch_size)

    def _task_batches(self, task: int) -> Iterator[np.ndarray]:
        order = self._generator(_ROWS, task).permutation(self.sizes[task])
        batches = self._batches_of(task)
        return iter(np.resize(order, (batches, self.batch_size)))

    def _task_order(self) -> list[int]:
        tasks = [task for task in range(len(self.sizes)) for _ in range(self._batches_of(task))]
        order: list[int] = self._generator(_ORDER).permutation(tasks).tolist()
        return order

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, *stream])
