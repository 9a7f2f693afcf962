"""One batch that stays on the device, to be run again and again and timed there."""

import time
from abc import ABC, abstractmethod
from collections.abc import Mapping
from contextlib import AbstractContextManager
from dataclasses import dataclass
from typing import Any, Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines import Prepared
from propetl.runtime.engines.cuda_runtime import Stream


@dataclass(frozen=True)
class Timing:
    """One run of a batch; nanoseconds.

    Attributes:
        enqueue: until the work was handed over, on the CPU.
        device: from the first to the last of the work, by events of the device.
        wall: until the CPU knew that it was done.
    """

    enqueue: int
    device: int
    wall: int


class HeldCall(ABC):
    """A batch whose inputs are on the device.

    Args:
        stream: that the work goes to.
        graphs: whether the work can become a CUDA graph on request.
    """

    def __init__(self, stream: Stream, graphs: bool) -> None:
        self.stream = stream
        self.graphs = graphs
        self._start, self._end = stream.event(), stream.event()

    @abstractmethod
    def enqueue(self, transfers: bool, graph: bool) -> None:
        """Hands the batch over and returns.

        Args:
            transfers: copy inputs and logits as well.
            graph: as one CUDA graph.
        """

    @abstractmethod
    def logits(self) -> NDArray[np.float32]:
        """What the last run with transfers gave; it has to be done."""

    def wait(self) -> None:
        """Returns when the device is done."""
        self.stream.synchronize()

    def timed(self, transfers: bool, graph: bool) -> Timing:
        """Runs the batch once."""
        begin = time.perf_counter_ns()
        self.stream.record(self._start)
        self.enqueue(transfers, graph)
        self.stream.record(self._end)
        handed = time.perf_counter_ns()
        self.wait()
        done = time.perf_counter_ns()
        return Timing(handed - begin, round(1e6 * self._end.milliseconds_since(self._start)), done - begin)


@runtime_checkable
class HoldingEngine(Protocol):
    """An engine that can hold a batch on its device."""

    def held(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> AbstractContextManager[HeldCall]:
        """``feeds`` and ``prepared`` as for a run."""
