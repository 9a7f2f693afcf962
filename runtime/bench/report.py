"""The report: figures and conditions. docs/benchmarking.md describes its JSON."""

from collections.abc import Iterator
from dataclasses import asdict, dataclass, fields
from typing import Any

from propetl.runtime.bench.call_figures import (
    LatencyFigures,
    MixedFigures,
    StartFigures,
    SwitchingFigures,
    latency_figures,
    mixed_figures,
    start_figures,
    switching_figures,
)
from propetl.runtime.bench.conditions import Conditions
from propetl.runtime.bench.device_figures import DeviceFigures, EngineFigures, device_figures, engine_figures
from propetl.runtime.bench.plan import Plan
from propetl.runtime.bench.samples import MemoryStages, Samples
from propetl.runtime.bench.stats import Spread, spread_ms
from propetl.runtime.bench.token_figures import GenerationFigures, generation_figures
from propetl.runtime.engines.precision import computed_precision

FORMAT = "propetl-bench"
VERSION = 1

_BUSY_CORES = 0.2
_PREEMPTED_SHARE = 0.05


@dataclass(frozen=True)
class MemoryFigures:
    """Memory of one process that is alone; see :class:`MemoryStages`."""

    runtime: str
    stages: MemoryStages
    tasks: int


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
    latency = tuple(latency_figures(plan, samples))
    return Report(
        artifact=_artifact(plan),
        settings=_settings(plan),
        conditions=conditions,
        latency=latency,
        generation=tuple(generation_figures(plan, samples)) if plan.new_tokens else (),
        interpreter=spread_ms(samples.interpreter),
        engine_import=spread_ms(samples.engine_import),
        starts=tuple(start_figures(plan, samples)),
        memory=tuple(MemoryFigures(runtime, stages, len(plan.tasks)) for runtime, stages in samples.memory.items()),
        switching=tuple(switching_figures(plan, samples)),
        mixed=tuple(mixed_figures(plan, samples)),
        adding=tuple(AddingFigures(name, spread_ms(ns)) for name, ns in samples.adding.items()),
        device=tuple(device_figures(plan, samples)),
        engines=tuple(engine_figures(plan, samples)) if plan.in_gpu_memory else (),
        notes=(*plan.notes, *_warnings(plan, conditions, latency)),
    )


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
