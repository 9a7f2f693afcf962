"""Batches for joint training: one task per batch, tasks in proportion to their data or evened out by a temperature."""

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


def batches_by_task(rows: Sequence[int], batch_size: int, temperature: float = 1.0) -> list[int]:
    """How many batches of each task an epoch holds.

    At temperature 1 just as many as see every row, ``ceil(rows / batch_size)``. At another one, that many in all are
    shared out in proportion to ``rows ** (1 / temperature)``, by largest remainders, with one for each task at least.

    Source: the temperature of the reference implementation's multi-task sampler.
    """
    whole = [math.ceil(count / batch_size) for count in rows]
    if temperature == 1:
        return whole
    logarithms = np.log(rows)
    rates = np.exp((logarithms - logarithms.max()) / temperature)  # scaled, so that no power overflows
    quotas = sum(whole) * rates / rates.sum()
    shares = np.floor(quotas).astype(int)
    largest = np.argsort(shares - quotas, kind="stable")[: sum(whole) - shares.sum()]
    shares[largest] += 1
    return [max(1, int(share)) for share in shares]


class TaskBatchSampler(Sampler[list[Row]]):
    """Yields every batch of an epoch.

    An epoch holds the batches of each task that :func:`batches_by_task` says, in one shuffled order. Every batch
    is full: a task goes through its rows in a new permutation as often as its batches want. The order is a
    function of seed and epoch alone, so it is the same in every process and after a resume.

    Args:
        lengths: tokens of each row, by task.
        batch_size: rows per batch over all processes.
        seed: of the order.
        temperature: see :func:`batches_by_task`.
        group_by_length: sort runs of 16 batches by length before cutting them, so that a batch pads little.
    """

    def __init__(
        self,
        lengths: Sequence[NDArray[np.int64]],
        batch_size: int,
        seed: int,
        *,
        temperature: float = 1.0,
        group_by_length: bool = False,
    ) -> None:
        if not all(map(len, lengths)):
            raise ValueError("every task needs rows")
        self.lengths = list(lengths)
        self.batches = batches_by_task([len(each) for each in lengths], batch_size, temperature)
        self.batch_size = batch_size
        self.seed = seed
        self.group_by_length = group_by_length
        self.epoch = 0

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration yields."""
        self.epoch = epoch

    def __len__(self) -> int:
        return sum(self.batches)

    def __iter__(self) -> Iterator[list[Row]]:
        batches = [iter(self._task_batches(task)) for task in range(len(self.lengths))]
        for task in self._task_order():
            yield [(task, row) for row in next(batches[task]).tolist()]

    def _task_batches(self, task: int) -> NDArray[Any]:
        """The epoch's rows of one task, ``[batches, batch_size]``."""
        generator = self._generator(_ROWS, task)
        rows, batches = len(self.lengths[task]), self.batches[task]
        wanted = batches * self.batch_size
        passes = [generator.permutation(rows) for _ in range(math.ceil(wanted / rows))]
        order = np.concatenate(passes)[:wanted]
        if not self.group_by_length:
            return order.reshape(batches, self.batch_size)
        grouped = self._sorted_in_runs(order, self.lengths[task]).reshape(batches, self.batch_size)
        return generator.permutation(grouped)  # runs are sorted, so the batches are not in random order

    def _sorted_in_runs(self, order: NDArray[Any], lengths: NDArray[np.int64]) -> NDArray[Any]:
        size = _BATCHES_SORTED_TOGETHER * self.batch_size
        runs = [order[start : start + size] for start in range(0, len(order), size)]
        return np.concatenate([run[np.argsort(lengths[run], kind="stable")] for run in runs])

    def _task_order(self) -> list[int]:
        tasks = [task for task, batches in enumerate(self.batches) for _ in range(batches)]
        order: list[int] = self._generator(_ORDER).permutation(tasks).tolist()
        return order

    def _generator(self, *stream: int) -> np.random.Generator:
        return np.random.default_rng([self.seed, self.epoch, *stream])
