"""Figures of calls: latency, the first answer of a process, switching and mixing tasks."""

from collections.abc import Iterator
from dataclasses import dataclass

from propetl.runtime.bench.plan import Plan
from propetl.runtime.bench.samples import TRUSTED, VERIFIED, Samples
from propetl.runtime.bench.stats import (
    Latency,
    Spread,
    first_median_ms,
    latency_of,
    median_ms,
    paired_difference_ms,
    paired_ratio,
    ratio_spread,
    spread_ms,
    spread_of,
)
from propetl.runtime.signatures import BARE


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


def latency_figures(plan: Plan, samples: Samples) -> Iterator[LatencyFigures]:
    """Figures of each runtime in each cell."""
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


def start_figures(plan: Plan, samples: Samples) -> Iterator[StartFigures]:
    """Figures of each runtime."""
    imported = samples.engine_import
    for runtime in plan.runtimes:
        starts = samples.starts[runtime.name, VERIFIED]
        verified = [start.total for start in starts]
        trusted = [start.total for start in samples.starts.get((runtime.name, TRUSTED), [])]
        yield StartFigures(
            runtime=runtime.name,
            verified=spread_ms(verified),
            trusted=spread_ms(trusted) if trusted else None,
            verified_to_import=ratio_spread(verified, imported),
            trusted_to_import=ratio_spread(trusted, imported) if trusted else None,
            imports_ms=median_ms([start.imports for start in starts]),
            opening_ms=median_ms([start.opening for start in starts]),
            running_ms=median_ms([start.running for start in starts]),
        )


def switching_figures(plan: Plan, samples: Samples) -> Iterator[SwitchingFigures]:
    """Figures of each runtime at each of the plan's cells for it."""
    for (runtime, cell), rounds in plan.in_order(samples.switching):
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


def mixed_figures(plan: Plan, samples: Samples) -> Iterator[MixedFigures]:
    """Figures of each runtime that mixes tasks."""
    for (runtime, cell), rounds in plan.in_order(samples.mixed):
        yield MixedFigures(
            runtime=runtime,
            batch=cell.batch,
            sequence=cell.sequence,
            tasks=min(len(plan.tasks), cell.batch),
            uniform_ms=spread_of([first_median_ms(pairs) for pairs in rounds]).median,
            to_uniform=spread_of([paired_ratio(pairs) for pairs in rounds]),
        )
