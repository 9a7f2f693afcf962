"""Figures of a GPU: batches on it, and its engines."""

from collections.abc import Iterator
from dataclasses import dataclass

from propetl.runtime.bench.plan import EAGER, Plan
from propetl.runtime.bench.samples import Samples
from propetl.runtime.bench.stats import NS_PER_MS, Latency, latency_of
from propetl.runtime.engine_records import GraphName
from propetl.runtime.engines.provider import PlanProvider
from propetl.runtime.engines.providers import PROVIDERS
from propetl.runtime.forms.choose import runs_staged
from propetl.runtime.graph_names import named_graphs
from propetl.runtime.signatures import STAGES


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


def device_figures(plan: Plan, samples: Samples) -> Iterator[DeviceFigures]:
    """Figures of each way in which a batch was run."""
    for (runtime, cell), rounds in plan.in_order(samples.device):
        for ways in zip(*rounds, strict=True):  # the same way of every round
            device, enqueue, wall = (
                latency_of([ns for way in ways for ns in getattr(way, name)], cell.batch)
                for name in ("device", "enqueue", "wall")
            )
            way = ways[0]
            yield DeviceFigures(runtime, cell.batch, cell.sequence, way.transfers, way.graph, device, enqueue, wall)


def engine_figures(plan: Plan, samples: Samples) -> Iterator[EngineFigures]:
    """Figures of each runtime but PyTorch."""
    for runtime in plan.runtimes:
        if runtime.name == EAGER:
            continue
        first, again = (ns / NS_PER_MS for ns in samples.loads[runtime.name])
        loaded, run = samples.device_bytes.get(runtime.name, (None, None))
        yield EngineFigures(runtime.name, _build_seconds(plan, runtime.name), first, again, loaded, run)


def _build_seconds(plan: Plan, form: str) -> float | None:
    """Of the plans that may be those that run: for each graph the first."""
    options, artifact = plan.options, plan.artifact
    provider = PROVIDERS[options.provider]
    if not isinstance(provider, PlanProvider):
        return None
    staged = runs_staged(artifact, form, options.engine)
    found: dict[GraphName, float] = {}
    for name in named_graphs({form: artifact.manifest.forms[form]}):
        for engine in artifact.manifest.engines:
            fits = engine.target == provider.target and options.precision in (None, engine.precision)
            if fits and name in engine.serves and name.task in (None, plan.task) and staged == (name.form == STAGES):
                found.setdefault(name, engine.build_seconds)
    return sum(found.values()) if found else None
