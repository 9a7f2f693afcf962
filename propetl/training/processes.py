"""The processes of one run under ``torchrun``; alone, everything here is the identity."""

import os
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, TypeVar

import torch
from torch import distributed

from propetl.errors import ProPETLError

Value = TypeVar("Value")


def is_first_process() -> bool:
    """Whether this process writes and prints, of those that ``torchrun`` started; known before they have met."""
    return os.environ.get("RANK", "0") == "0"


@dataclass(frozen=True)
class Processes:
    """Which of how many this one is.

    Attributes:
        index: of this process.
        count: of all.
        on_gpu: whether they compute on GPUs.
        beside: group of all of them in which they agree without waiting for their GPUs; None for the one they are in.
    """

    index: int = 0
    count: int = 1
    on_gpu: bool = False
    beside: Any = None

    @property
    def first(self) -> bool:
        """Whether this process is the one that writes and prints."""
        return self.index == 0

    def gather(self, value: Value) -> list[Value]:
        """``value`` of every process, in their order, to all of them."""
        if self.count == 1:
            return [value]
        gathered: list[Any] = [None] * self.count
        distributed.all_gather_object(gathered, value)
        return gathered

    def on_first(self, work: Callable[[], Value]) -> Value:
        """Runs ``work`` in the first process and gives its result, or its error, to all."""
        if self.count == 1:
            return work()
        outcome: list[Any] = [None, None]
        error: Exception | None = None
        if self.first:
            try:
                outcome[0] = work()
            except Exception as raised:  # whatever it is, the others must not wait for a result
                error, outcome[1] = raised, str(raised) or type(raised).__name__
        distributed.broadcast_object_list(outcome, src=0)
        if error is not None:
            raise error
        if outcome[1] is not None:
            raise ProPETLError(outcome[1])
        result: Value = outcome[0]
        return result

    def largest(self, value: int) -> int:
        """The largest ``value`` of all processes, to all of them."""
        if self.count == 1:
            return value
        found = torch.tensor(value)
        distributed.all_reduce(found, distributed.ReduceOp.MAX, group=self.beside)
        return int(found)
