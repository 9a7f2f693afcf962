"""The order of work: what is measured, when, in which process."""

import json
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack
from dataclasses import asdict, dataclass
from functools import partial
from pathlib import Path
from typing import Any, TypeVar

from propetl.runtime.bench.device import DeviceSamples
from propetl.runtime.bench.first_answer import FirstAnswer
from propetl.runtime.bench.memory import Memory
from propetl.runtime.bench.messages import (
    Cell,
    Load,
    MeasureAdding,
    MeasureDevice,
    MeasureDeviceMemory,
    MeasureLatency,
    MeasureMemory,
    MeasureMixed,
    MeasureSwitching,
    MeasureTokens,
    Request,
    RunOnce,
)
from propetl.runtime.bench.plan import EAGER, Plan, Runtime
from propetl.runtime.bench.processes import WorkerProcess, timed_first_line
from propetl.runtime.bench.samples import TRUSTED, VERIFIED, MemoryStages, Samples, Start, Visit
from propetl.runtime.bench.tokens import feeds_of

Progress = Callable[[str, float, float], None]
"""Called before each step: what it does, seconds done so far, seconds in all (both estimates)."""

_LOAD_SECONDS, _EAGER_LOAD_SECONDS = 1.0, 6.0
_LEAST_CALLS = 3
_ADDING_REPEATS = 20

_PRINT_NOTHING = "print('{}', flush=True)"

_T = TypeVar("_T")


@dataclass(frozen=True)
class Step:
    """One piece of work.

    Attributes:
        what: shown while it runs.
        seconds: an estimate.
        do: does it.
    """

    what: str
    seconds: float
    do: Callable[[], None]


def measure(plan: Plan, progress: Progress) -> Samples:
    """Measures all of ``plan``: first each process alone, then all of them in turn.

    Raises:
        ProPETLError: a worker could not load or run what it was asked to.
    """
    samples = Samples()
    with ExitStack() as stack:
        crew = _Crew(plan, samples, stack)
        steps = [*_alone(plan, samples), *crew.steps()]
        total, done = sum(step.seconds for step in steps), 0.0
        for step in steps:
            progress(step.what, done, total)
            step.do()
            done += step.seconds
    progress("done", total, total)
    return samples


def rotated(items: Sequence[_T], by: int) -> tuple[_T, ...]:
    """``items`` beginning with another one, so that no runtime is always the first of its round."""
    start = by % len(items)
    return (*items[start:], *items[:start])


def _alone(plan: Plan, samples: Samples) -> Iterator[Step]:
    """Memory and cold starts: no other worker lives, as memory that two share counts by half."""
    for runtime in plan.runtimes:
        yield Step(f"memory of {runtime.name}", _load_seconds(runtime), partial(_memory, plan, samples, runtime))
    for round_ in range(plan.start_rounds):
        yield Step("cold starts: Python", 0.5, partial(_baseline_starts, plan, samples))
        for runtime in rotated(plan.runtimes, round_):
            for kind in (VERIFIED,) if runtime.name == EAGER else (VERIFIED, TRUSTED):
                start = partial(_cold_start, plan, samples, runtime, kind)
                yield Step(f"cold starts: {runtime.name}", _load_seconds(runtime), start)


def _load_seconds(runtime: Runtime) -> float:
    return _EAGER_LOAD_SECONDS if runtime.name == EAGER else _LOAD_SECONDS


def _load_request(plan: Plan, runtime: Runtime) -> Load:
    options = plan.options
    return Load(
        source=str(runtime.source),
        runtime=runtime.name,
        task=plan.task,
        provider=options.provider,
        threads=options.threads,
        vocabulary=plan.vocabulary,
        device=options.device,
        engine_cache=_text_of(options.engine_cache),
        batch_size=plan.most_rows,
        precision=plan.options.precision,
        timed=plan.times_device and runtime.name != EAGER,
        new_tokens=plan.new_tokens,
        beams=plan.beams,
        allow_pickle=options.allow_pickle,
    )


def _text_of(path: Path | None) -> str | None:
    return None if path is None else str(path)


def _memory(plan: Plan, samples: Samples, runtime: Runtime) -> None:
    with WorkerProcess(runtime.name, runtime.module) as worker:
        device = [_free_bytes(plan, worker)]
        samples.loads[runtime.name].append(worker.ask(_load_request(plan, runtime))["ns"])
        device.append(_free_bytes(plan, worker))
        loaded = Memory(**worker.ask(MeasureMemory()))
        worker.ask(RunOnce((plan.task,), plan.cells))
        device.append(_free_bytes(plan, worker))
        run = Memory(**worker.ask(MeasureMemory()))
        all_tasks = None
        if runtime.switches and len(plan.tasks) > 1:
            worker.ask(RunOnce(plan.tasks, plan.cells))
            all_tasks = Memory(**worker.ask(MeasureMemory()))
    samples.memory[runtime.name] = MemoryStages(loaded, run, all_tasks)
    if None not in device:
        before, after_loading, after_running = (free or 0 for free in device)
        samples.device_bytes[runtime.name] = (before - after_loading, before - after_running)


def _free_bytes(plan: Plan, worker: WorkerProcess) -> int | None:
    """Free bytes of the GPU; None where nothing runs on one."""
    if not plan.in_gpu_memory:
        return None
    return worker.ask(MeasureDeviceMemory(plan.options.device)).get("free")


def _baseline_starts(plan: Plan, samples: Samples) -> None:
    samples.interpreter.append(timed_first_line("Python", ["-c", _PRINT_NOTHING])[0])
    module = plan.engine_module
    code = f"import {module}; {_PRINT_NOTHING}"
    samples.engine_import.append(timed_first_line(f"importing {module}", ["-c", code])[0])


def _cold_start(plan: Plan, samples: Samples, runtime: Runtime, kind: str) -> None:
    module = runtime.module if runtime.name == EAGER else "propetl.runtime.bench.first_answer"
    feeds = feeds_of(plan.first_cell, plan.vocabulary)
    asked = FirstAnswer(
        source=str(runtime.source),
        runtime=runtime.name,
        task=plan.task,
        verify=kind == VERIFIED,
        inputs={name: tensor.tolist() for name, tensor in feeds.items()},
        provider=plan.options.provider,
        threads=plan.options.threads,
        device=plan.options.device,
        engine_cache=_text_of(plan.options.engine_cache),
        batch_size=plan.most_rows,
        precision=plan.options.precision,
        engine_module=plan.engine_module,
        generates=plan.new_tokens > 0,
        allow_pickle=plan.options.allow_pickle,
    )
    total, stages = timed_first_line(f"the first answer of {runtime.name}", ["-m", module, json.dumps(asdict(asked))])
    samples.starts[runtime.name, kind].append(Start(total, **stages))


class _Crew:
    """One worker for each runtime, all alive, one running at a time."""

    def __init__(self, plan: Plan, samples: Samples, stack: ExitStack) -> None:
        self._plan = plan
        self._samples = samples
        self._stack = stack
        self._workers: dict[str, WorkerProcess] = {}

    def steps(self) -> Iterator[Step]:
        """Loading, then the rounds, then what would disturb them."""
        for runtime in self._plan.runtimes:
            yield Step(f"loading {runtime.name}", _load_seconds(runtime), partial(self._load, runtime))
        for round_ in range(self._plan.options.rounds):
            yield from self._round(round_)
        for runtime in filter(lambda runtime: runtime.adds, self._plan.runtimes):
            yield Step("adding a task", _LOAD_SECONDS, partial(self._add, runtime))

    def _round(self, round_: int) -> Iterator[Step]:
        """Cell by cell, every runtime in turn: neighbours in time are what ratios compare."""
        plan = self._plan
        runtimes = rotated(plan.runtimes, round_)
        switching = [runtime for runtime in runtimes if runtime.switches]
        visits: list[tuple[str, Cell, Sequence[Runtime], Callable[[Runtime, Cell], None]]] = [
            *(("latency", cell, runtimes, self._tokens if plan.new_tokens else self._latency) for cell in plan.cells),
            *(("device", cell, runtimes, self._device) for cell in plan.cells if plan.times_device),
            *(("switching", cell, switching, self._switch) for cell in plan.switching),
        ]
        if plan.mixing is not None:
            visits.append(("mixed batch", plan.mixing, switching, self._mix))
        for what, cell, who, do in visits:
            for runtime in who:
                title = f"round {round_ + 1} of {plan.options.rounds}: {what} {cell.batch}×{cell.sequence}"
                seconds = plan.settling_seconds + 1.1 * plan.options.seconds
                yield Step(f"{title}, {runtime.name}", seconds, partial(do, runtime, cell))

    def _load(self, runtime: Runtime) -> None:
        worker = self._stack.enter_context(WorkerProcess(runtime.name, runtime.module))
        self._samples.loads[runtime.name].append(worker.ask(_load_request(self._plan, runtime))["ns"])
        self._workers[runtime.name] = worker

    def _latency(self, runtime: Runtime, cell: Cell) -> None:
        request = MeasureLatency(self._plan.task, cell, self._plan.options.seconds, _LEAST_CALLS)
        self._samples.latency[runtime.name, cell].append(Visit(**self._ask(runtime, request)))

    def _tokens(self, runtime: Runtime, cell: Cell) -> None:
        """Calls of which every token is timed; the last of them is the latency of the call."""
        request = MeasureTokens(self._plan.task, cell, self._plan.options.seconds, 1)
        answer = self._ask(runtime, request)
        calls: list[list[int]] = answer["calls"]
        self._samples.tokens[runtime.name, cell].append(calls)
        self._samples.latency[runtime.name, cell].append(Visit([times[-1] for times in calls], answer["preempted"]))

    def _device(self, runtime: Runtime, cell: Cell) -> None:
        request = MeasureDevice(self._plan.task, cell, self._plan.options.seconds, _LEAST_CALLS)
        found = [DeviceSamples(**item) for item in self._ask(runtime, request)["samples"]]
        if found:
            self._samples.device[runtime.name, cell].append(found)

    def _switch(self, runtime: Runtime, cell: Cell) -> None:
        request = MeasureSwitching(self._plan.tasks, cell, self._plan.options.seconds)
        pairs = self._ask(runtime, request)["pairs"]
        self._samples.switching[runtime.name, cell].append([(one, other) for one, other in pairs])

    def _mix(self, runtime: Runtime, cell: Cell) -> None:
        request = MeasureMixed(self._plan.tasks, cell, self._plan.options.seconds)
        pairs = self._ask(runtime, request)["pairs"]
        self._samples.mixed[runtime.name, cell].append([(one, other) for one, other in pairs])

    def _add(self, runtime: Runtime) -> None:
        answer = self._ask(runtime, MeasureAdding(self._plan.task, _ADDING_REPEATS))
        self._samples.adding[runtime.name] = answer["ns"]

    def _ask(self, runtime: Runtime, request: Request) -> dict[str, Any]:
        time.sleep(self._plan.settling_seconds)
        return self._workers[runtime.name].ask(request)
