"""What the device takes for a batch, seen from the device and from the CPU that hands it over."""

import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, Prepared
from propetl.runtime.engines.held import HeldCall, HoldingEngine, Timing
from propetl.runtime.signatures import BANK, SWITCHABLE, TASK_ID

Clock = Callable[[], int]

_MOST_CALLS = 5000
_WARM_UP_CALLS = 5


@dataclass(frozen=True)
class DeviceSamples:
    """Runs of one batch in one way; nanoseconds of each.

    Attributes:
        transfers: whether inputs and logits were copied with each run.
        graph: whether the work went over as one CUDA graph.
        enqueue: on the CPU, until the work was handed over.
        device: between events of the device around it.
        wall: on the CPU, until it was done.
    """

    transfers: bool
    graph: bool
    enqueue: tuple[int, ...]
    device: tuple[int, ...]
    wall: tuple[int, ...]


def measure_device(
    engine: Engine,
    feeds: Mapping[str, NDArray[Any]],
    prepared: Prepared,
    seconds: float,
    minimum: int,
    clock: Clock = time.perf_counter_ns,
) -> list[DeviceSamples]:
    """Every way of running a batch; none where the engine has no device of its own.

    Args:
        engine: that runs it.
        feeds: inputs of the batch.
        prepared: inputs that are ready.
        seconds: for all ways together.
        minimum: runs of each way at least.
        clock: a clock in nanoseconds.
    """
    if not isinstance(engine, HoldingEngine):
        return []
    with engine.held(feeds, prepared) as call:
        ways = [
            (transfers, graph) for graph in ((False, True) if call.graphs else (False,)) for transfers in (True, False)
        ]
        return [_samples(call, *way, seconds / len(ways), minimum, clock) for way in ways]


def _samples(call: HeldCall, transfers: bool, graph: bool, seconds: float, minimum: int, clock: Clock) -> DeviceSamples:
    for _ in range(_WARM_UP_CALLS):
        call.timed(transfers, graph)
    taken: list[Timing] = []
    end = clock() + int(seconds * 1e9)
    while len(taken) < minimum or (clock() < end and len(taken) < _MOST_CALLS):
        taken.append(call.timed(transfers, graph))
    return DeviceSamples(
        transfers,
        graph,
        tuple(timing.enqueue for timing in taken),
        tuple(timing.device for timing in taken),
        tuple(timing.wall for timing in taken),
    )


def engine_inputs(
    artifact: Artifact, form: str, task: str, engine: Engine, feeds: Mapping[str, NDArray[np.int64]]
) -> tuple[dict[str, NDArray[Any]], Prepared]:
    """What the engine of ``form`` is fed for a batch of ``task``, and what it has ready."""
    if form == SWITCHABLE:
        return dict(feeds), engine.prepare(artifact.pack(task).tensors())
    if form == BANK:
        row = artifact.manifest.forms[BANK].task_ids[task]
        return {**feeds, TASK_ID: np.full(len(feeds["input_ids"]), row, dtype=np.int64)}, {}
    return dict(feeds), {}
