"""The report: figures and conditions. docs/benchmarking.md describes its JSON."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from itertools import pairwise
from typing import Any

from propetl.runtime.bench.conditions import Conditions
from propetl.runtime.bench.messages import Cell
from propetl.runtime.bench.plan import EAGER, Plan
from propetl.runtime.bench.samples import TRUSTED, VERIFIED, MemoryStages, Samples
from propetl.runtime.bench.stats import (
    NS_PER_MS,
    Latency,
    Spread,
    first_median_ms,
    latency_of,
    median_ms,
    paired_difference_ms,
    paired_ratio,
    ratio_spread,
    spread_of,
)
from propetl.runtime.engine_records import GraphName
from propetl.runtime.engines.precision import computed_precision
from propetl.runtime.engines.tensorrt_flavour import PLAN_FLAVOURS
from propetl.runtime.forms.choose import runs_staged
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.signatures import BARE, STAGES

FORMAT = "propetl-bench"
VERSION = 1

_BUSY_CORES = 0.2
_PREEMPTED_SHARE = 0.05


@dataclass(frozen=True)
class LatencyFigures:
    """One runtime in one cell.

    Attributes:
        latency: over all rounds.
        round_p50_ms: median of each round.
        to_bare: of the rounds' medians to those of the bare backbone; None for itself or without it.
        preempted: times that the system took the core away while calls were timed.
    """

    runtime: str
    batch: int
    sequence: int
    latency: Latency
    round_p50_ms: tuple[float, ...]
    to_bare: Spread | None
    preempted: int


@dataclass(frozen=True)
class StartFigures:
    """First answer of a cold process; milliseconds, interpreter included.

    Attributes:
        verified: with every file hashed first, as a session does unless told otherwise.
        trusted: without; None for PyTorch.
        verified_to_import, trusted_to_import: ratio to starting Python and importing ONNX Runtime, no more.
        imports_ms, opening_ms, running_ms: medians of the stages, files hashed.
    """

    runtime: str
    verified: Spread
    trusted: Spread | None
    verified_to_import: Spread
    trusted_to_import: Spread | None
    imports_ms: float
    opening_ms: float
    running_ms: float


@dataclass(frozen=True)
class MemoryFigures:
    """Memory of one process that is alone; see :class:`MemoryStages`."""

    runtime: str
    stages: MemoryStages
    tasks: int


@dataclass(frozen=True)
class SwitchingFigures:
    """A call with another task than the call before, against one with the same.

    Attributes:
        same_ms: a call that does not switch, median of the rounds' medians.
        cost_ms: what switching adds.
        share: that, as share of a call that does not switch.
    """

    runtime: str
    batch: int
    sequence: int
    tasks: int
    same_ms: float
    cost_ms: Spread
    share: Spread


@dataclass(frozen=True)
class MixedFigures:
    """A batch whose rows take turns with tasks, against one of a single task.

    Attributes:
        uniform_ms: the batch of one task, median of the rounds' medians.
        to_uniform: ratio.
    """

    runtime: str
    batch: int
    sequence: int
    tasks: int
    uniform_ms: float
    to_uniform: Spread


@dataclass(frozen=True)
class GenerationFigures:
    """Tokens of one runtime in one cell, over all rounds; times in milliseconds, for the whole batch.

    Attributes:
        new_tokens: that each call generates for each row.
        beams: that it does so with.
        first: from the call to the scores of the first token.
        step: from a token to the next.
        tokens_per_second: of all rows of a call of median length, a round each.
        to_eager: that to transformers' ``generate`` of the same round; None for itself or without it.
    """

    runtime: str
    batch: int
    sequence: int
    new_tokens: int
    beams: int
    first: Latency
    step: Latency
    tokens_per_second: Spread
    to_eager: Spread | None


@dataclass(frozen=True)
class DeviceFigures:
    """One batch on the GPU, run in one way; over all rounds.

    Attributes:
        transfers: whether inputs and logits were copied with each run.
        graph: whether the work went over as one CUDA graph.
        device: between events of the GPU around the work.
        enqueue: on the CPU, until the work was handed over.
        wall: on the CPU, until the work was done.
    """

    runtime: str
    batch: int
    sequence: int
    transfers: bool
    graph: bool
    device: Latency
    enqueue: Latency
    wall: Latency


@dataclass(frozen=True)
class EngineFigures:
    """One runtime's engine on the GPU.

    Attributes:
        build_seconds: of the plan at export, as its record says; None for a provider that runs graphs.
        first_load_ms: the first time, files hashed; it builds the engine where the provider does and has none yet.
        load_ms: after that.
        loaded_bytes, run_bytes: memory of the GPU after loading one task, and after every batch and length ran.
    """

    runtime: str
    build_seconds: float | None
    first_load_ms: float
    load_ms: float
    loaded_bytes: int | None
    run_bytes: int | None


@dataclass(frozen=True)
class AddingFigures:
    """Adding a task from its pack on disk to a session that runs; milliseconds, over repeats."""

    runtime: str
    ms: Spread


@dataclass(frozen=True)
class Report:
    """All figures of one run.

    Attributes:
        artifact: which artifact it was.
        settings: what was asked for.
        conditions: machine and versions.
        interpreter, engine_import: starting Python, and that with importing what runs the engines; milliseconds.
        notes: what is not measured, and what may have disturbed the rest.
    """

    artifact: dict[str, Any]
    settings: dict[str, Any]
    conditions: Conditions
    latency: tuple[LatencyFigures, ...]
    generation: tuple[GenerationFigures, ...]
    interpreter: Spread
    engine_import: Spread
    starts: tuple[StartFigures, ...]
    memory: tuple[MemoryFigures, ...]
    switching: tuple[SwitchingFigures, ...]
    mixed: tuple[MixedFigures, ...]
    adding: tuple[AddingFigures, ...]
    device: tuple[DeviceFigures, ...]
    engines: tuple[EngineFigures, ...]
    notes: tuple[str, ...]

    @property
    def runtimes(self) -> tuple[str, ...]:
        """Names of all that was measured, in order."""
        return tuple(dict.fromkeys(figures.runtime for figures in self.latency))

    def to_json(self) -> dict[str, Any]:
        """As ``--json`` writes it."""
        parts = {item.name: getattr(self, item.name) for item in fields(self)}
        return {"format": FORMAT, "version": VERSION} | {name: _plain(part) for name, part in parts.items()}


def report_of(plan: Plan, samples: Samples, conditions: Conditions) -> Report:
    """Figures out of ``samples``."""
    latency = tuple(_latency(plan, samples))
    return Report(
        artifact=_artifact(plan),
        settings=_settings(plan),
        conditions=conditions,
        latency=latency,
        generation=tuple(_generation(plan, samples)) if plan.new_tokens else (),
        interpreter=_milliseconds(samples.interpreter),
        engine_import=_milliseconds(samples.engine_import),
        starts=tuple(_starts(plan, samples)),
        memory=tuple(MemoryFigures(runtime, stages, len(plan.tasks)) for runtime, stages in samples.memory.items()),
        switching=tuple(_switching(plan, samples)),
        mixed=tuple(_mixed(plan, samples)),
        adding=tuple(AddingFigures(name, _milliseconds(ns)) for name, ns in samples.adding.items()),
        device=tuple(_device(plan, samples)),
        engines=tuple(_engines(plan, samples)) if plan.on_gpu else (),
        notes=(*plan.notes, *_warnings(plan, conditions, latency)),
    )


def _latency(plan: Plan, samples: Samples) -> Iterator[LatencyFigures]:
    for cell in plan.cells:
        bare = [median_ms(visit.ns) for visit in samples.latency.get((BARE, cell), [])]
        for runtime in plan.runtimes:
            visits = samples.latency[runtime.name, cell]
            medians = [median_ms(visit.ns) for visit in visits]
            yield LatencyFigures(
                runtime=runtime.name,
                batch=cell.batch,
                sequence=cell.sequence,
                latency=latency_of([ns for visit in visits for ns in visit.ns], cell.batch),
                round_p50_ms=tuple(medians),
                to_bare=ratio_spread(medians, bare) if bare and runtime.name != BARE else None,
                preempted=sum(visit.preempted for visit in visits),
            )


def _generation(plan: Plan, samples: Samples) -> Iterator[GenerationFigures]:
    for cell in plan.cells:
        eager = _rates(plan, cell, samples.tokens.get((EAGER, cell), []))
        for runtime in plan.runtimes:
            rounds = samples.tokens[runtime.name, cell]
            calls = [times for calls in rounds for times in calls]
            rates = _rates(plan, cell, rounds)
            yield GenerationFigures(
                runtime=runtime.name,
                batch=cell.batch,
                sequence=cell.sequence,
                new_tokens=plan.new_tokens,
                beams=plan.beams,
                first=latency_of([times[0] for times in calls], cell.batch),
                step=latency_of([later - sooner for times in calls for sooner, later in pairwise(times)], cell.batch),
                tokens_per_second=spread_of(rates),
                to_eager=ratio_spread(rates, eager) if eager and runtime.name != EAGER else None,
            )


def _rates(plan: Plan, cell: Cell, rounds: list[list[list[int]]]) -> list[float]:
    """Tokens per second of each round."""
    tokens = 1e3 * cell.batch * plan.new_tokens
    return [tokens / median_ms([times[-1] for times in calls]) for calls in rounds]


def _starts(plan: Plan, samples: Samples) -> Iterator[StartFigures]:
    imported = samples.engine_import
    for runtime in plan.runtimes:
        starts = samples.starts[runtime.name, VERIFIED]
        verified = [start.total for start in starts]
        trusted = [start.total for start in samples.starts.get((runtime.name, TRUSTED), [])]
        yield StartFigures(
            runtime=runtime.name,
            verified=_milliseconds(verified),
            trusted=_milliseconds(trusted) if trusted else None,
            verified_to_import=ratio_spread(verified, imported),
            trusted_to_import=ratio_spread(trusted, imported) if trusted else None,
            imports_ms=median_ms([start.imports for start in starts]),
            opening_ms=median_ms([start.opening for start in starts]),
            running_ms=median_ms([start.running for start in starts]),
        )


def _switching(plan: Plan, samples: Samples) -> Iterator[SwitchingFigures]:
    for (runtime, cell), rounds in _in_order(plan, samples.switching):
        costs = [paired_difference_ms(pairs) for pairs in rounds]
        same = [first_median_ms(pairs) for pairs in rounds]
        yield SwitchingFigures(
            runtime=runtime,
            batch=cell.batch,
            sequence=cell.sequence,
            tasks=len(plan.tasks),
            same_ms=spread_of(same).median,
            cost_ms=spread_of(costs),
            share=ratio_spread(costs, same),
        )


def _mixed(plan: Plan, samples: Samples) -> Iterator[MixedFigures]:
    for (runtime, cell), rounds in _in_order(plan, samples.mixed):
        yield MixedFigures(
            runtime=runtime,
            batch=cell.batch,
            sequence=cell.sequence,
            tasks=min(len(plan.tasks), cell.batch),
            uniform_ms=spread_of([first_median_ms(pairs) for pairs in rounds]).median,
            to_uniform=spread_of([paired_ratio(pairs) for pairs in rounds]),
        )


def _device(plan: Plan, samples: Samples) -> Iterator[DeviceFigures]:
    for (runtime, cell), rounds in _in_order(plan, samples.device):
        for ways in zip(*rounds, strict=True):  # the same way of every round
            device, enqueue, wall = (
                latency_of([ns for way in ways for ns in getattr(way, name)], cell.batch)
                for name in ("device", "enqueue", "wall")
            )
            way = ways[0]
            yield DeviceFigures(runtime, cell.batch, cell.sequence, way.transfers, way.graph, device, enqueue, wall)


def _engines(plan: Plan, samples: Samples) -> Iterator[EngineFigures]:
    for runtime in plan.runtimes:
        if runtime.name == EAGER:
            continue
        first, again = (ns / NS_PER_MS for ns in samples.loads[runtime.name])
        loaded, run = samples.device_bytes.get(runtime.name, (None, None))
        yield EngineFigures(runtime.name, _build_seconds(plan, runtime.name), first, again, loaded, run)


def _build_seconds(plan: Plan, form: str) -> float | None:
    """Of the plans that may be those that run: for each graph the first."""
    options, artifact = plan.options, plan.artifact
    if options.provider not in PLAN_FLAVOURS:
        return None
    target = PLAN_FLAVOURS[options.provider].target
    staged = runs_staged(artifact, form, options.engine)
    found: dict[GraphName, float] = {}
    for name in named_graphs({form: artifact.manifest.forms[form]}):
        for engine in artifact.manifest.engines:
            fits = engine.target == target and options.precision in (None, engine.precision)
            if fits and name in engine.serves and name.task in (None, plan.task) and staged == (name.form == STAGES):
                found.setdefault(name, engine.build_seconds)
    return sum(found.values()) if found else None


def _in_order(plan: Plan, measured: dict[Any, Any]) -> list[tuple[Any, Any]]:
    """By runtime as planned, whatever the first round began with."""
    names = [runtime.name for runtime in plan.runtimes]
    return sorted(measured.items(), key=lambda item: (item[0][1].sequence, names.index(item[0][0])))


def _milliseconds(ns: list[int]) -> Spread:
    return spread_of([value / NS_PER_MS for value in ns])


def _artifact(plan: Plan) -> dict[str, Any]:
    manifest = plan.artifact.manifest
    return {
        "path": str(plan.artifact.path),
        "backbone": manifest.backbone.name,
        "prototype": manifest.prototype.to_json(),
        "precision": manifest.precision,
        "opset": manifest.opset,
        "tasks": list(manifest.tasks),
        "bundle_sha256": manifest.bundle_sha256,
        "tools": manifest.tools,
    }


def _settings(plan: Plan) -> dict[str, Any]:
    options = plan.options
    return {
        "provider": options.provider,
        "device": options.device,
        "engine_module": plan.engine_module,
        "precision": computed_precision(plan.artifact.manifest, options.engine),
        "threads": options.threads,
        "task": plan.task,
        "turns": list(plan.tasks),
        "rounds": options.rounds,
        "start_rounds": plan.start_rounds,
        "seconds_per_visit": options.seconds,
        "settling_seconds": plan.settling_seconds,
        "first_answer": asdict(plan.first_cell),
        "new_tokens": plan.new_tokens,
        "beams": plan.beams,
        "spinning": "as in a session, 1 ms after a call with ONNX Runtime; with one thread there is none",
        "files": "in the page cache",
    }


def _warnings(plan: Plan, conditions: Conditions, latency: tuple[LatencyFigures, ...]) -> Iterator[str]:
    if conditions.busy_cores is not None and conditions.busy_cores > _BUSY_CORES:
        yield f"{conditions.busy_cores:.1f} cores were busy before the run: expect slower and noisier figures"
    if plan.options.threads > conditions.usable_cores:
        yield f"{plan.options.threads} threads run on {conditions.usable_cores} usable cores"
    calls, preempted = sum(item.latency.calls for item in latency), sum(item.preempted for item in latency)
    if preempted > _PREEMPTED_SHARE * calls:
        yield f"the system took the core away {preempted} times in {calls} calls: others were running"


def _plain(part: Any) -> Any:
    """Dataclasses as dictionaries, tuples as lists; nothing else occurs."""
    if isinstance(part, tuple):
        return [_plain(item) for item in part]
    if hasattr(part, "__dataclass_fields__"):
        return {item.name: _plain(getattr(part, item.name)) for item in fields(part)}
    return part
