"""Figures out of samples that were made up."""

from dataclasses import replace

import pytest

from propetl.runtime.bench.conditions import Conditions
from propetl.runtime.bench.memory import Memory
from propetl.runtime.bench.messages import Cell
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.report import report_of
from propetl.runtime.bench.samples import TRUSTED, VERIFIED, MemoryStages, Samples, Start, Visit

MS = 1_000_000
CELL = Cell(2, 8)
CONDITIONS = Conditions(
    date="2025-01-01T00:00:00+00:00",
    cpu="some processor",
    cpu_flags=(),
    cores=4,
    usable_cores=2,
    memory_bytes=1 << 30,
    governor=None,
    system="Linux",
    versions={},
    load_average=(0.0, 0.0, 0.0),
    busy_cores=0.0,
)


@pytest.fixture
def plan(tiny):
    return plan_of(tiny.path, BenchOptions(forms=("folded",), batches=(2,), sequences=(8,), rounds=2))


@pytest.fixture
def samples():
    """Round 2 is half as fast as round 1, for all alike; folded takes 1.1 of the bare backbone's time."""
    made = Samples(
        memory={"folded": MemoryStages(Memory(1, 2, 1), Memory(3, 4, 3), None)},
        interpreter=[20 * MS, 30 * MS],
        engine_import=[100 * MS, 200 * MS],
    )
    made.latency["bare", CELL] = [Visit([10 * MS] * 3, 0), Visit([20 * MS] * 3, 0)]
    made.latency["folded", CELL] = [Visit([11 * MS] * 3, 0), Visit([22 * MS] * 3, 0)]
    for name in ("bare", "folded"):
        for kind, factor in ((VERIFIED, 3), (TRUSTED, 2)):
            made.starts[name, kind] = [
                Start(factor * 100 * MS, 90 * MS, 60 * MS, 10 * MS),
                Start(factor * 200 * MS, 190 * MS, 60 * MS, 10 * MS),
            ]
    made.switching["folded", CELL] = [[(10 * MS, 11 * MS)], [(20 * MS, 24 * MS)]]
    made.mixed["folded", CELL] = [[(10 * MS, 20 * MS)], [(20 * MS, 60 * MS)]]
    return made


def test_figures(plan, samples):
    report = report_of(plan, samples, CONDITIONS)
    bare, folded = report.latency
    assert bare.to_bare is None
    assert (bare.latency.p50, folded.latency.calls) == (15, 6)
    assert list(folded.round_p50_ms) == [11, 22]
    assert folded.to_bare is not None
    assert (folded.to_bare.minimum, folded.to_bare.maximum) == pytest.approx((1.1, 1.1))
    assert bare.latency.rows_per_second == pytest.approx(1000 * 2 / 15)
    start = report.starts[1]
    assert start.verified_to_import.median == pytest.approx(3)
    assert start.trusted_to_import is not None and start.trusted_to_import.median == pytest.approx(2)
    assert (start.imports_ms, start.opening_ms, start.running_ms) == (140, 60, 10)
    switching, mixed = report.switching[0], report.mixed[0]
    assert len(report.switching) == len(report.mixed) == 1
    assert (switching.cost_ms.minimum, switching.cost_ms.maximum) == (1, 4)
    assert (switching.share.minimum, switching.share.maximum) == pytest.approx((0.1, 0.2))
    assert switching.same_ms == 15
    assert (mixed.tasks, mixed.uniform_ms, mixed.to_uniform.median) == (2, 15, 2.5)
    assert report.notes == ()


@pytest.mark.parametrize(
    ("busy", "preempted", "threads", "notes"),
    [
        (1.4, 0, 1, ["1.4 cores were busy before the run"]),
        (None, 0, 1, []),
        (0.0, 3, 1, ["the system took the core away 3 times in 12 calls"]),
        (0.0, 0, 3, ["3 threads run on 2 usable cores"]),
    ],
)
def test_what_may_have_disturbed_is_said(plan, samples, busy, preempted, threads, notes):
    samples.latency["bare", CELL][1] = Visit([20 * MS] * 3, preempted)
    plan = replace(plan, options=replace(plan.options, threads=threads))
    report = report_of(plan, samples, replace(CONDITIONS, busy_cores=busy))
    assert len(report.notes) == len(notes)
    assert all(note.startswith(start) for note, start in zip(report.notes, notes, strict=True))
