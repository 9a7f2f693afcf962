from collections import Counter
from typing import ClassVar

from hypothesis import given
from hypothesis import strategies as st

from propetl.runtime.bench import steps
from propetl.runtime.bench.messages import (
    Load,
    MeasureAdding,
    MeasureLatency,
    MeasureMemory,
    MeasureMixed,
    MeasureSwitching,
)
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.steps import measure, rotated


class FakeProcess:
    """Notes who is asked what, and how many live at once."""

    living: ClassVar[list[str]] = []
    log: ClassVar[list[tuple[str, object, int]]] = []

    def __init__(self, name, module):
        self.name = name

    def __enter__(self):
        self.living.append(self.name)
        return self

    def __exit__(self, *error):
        self.living.remove(self.name)

    def ask(self, request):
        self.log.append((self.name, request, len(self.living)))
        match request:
            case Load():
                return {"ns": 7_000_000}
            case MeasureMemory():
                return {"pss": 3, "rss": 4, "private": 2}
            case MeasureLatency():
                return {"ns": [10, 20], "preempted": 1}
            case MeasureSwitching() | MeasureMixed():
                return {"pairs": [[10, 12]]}
            case MeasureAdding():
                return {"ns": [5]}
        return {}


def measured(tiny, monkeypatch, options):
    monkeypatch.setattr(FakeProcess, "living", [])
    monkeypatch.setattr(FakeProcess, "log", [])
    monkeypatch.setattr(steps, "WorkerProcess", FakeProcess)
    stages = {"imports": 1, "opening": 2, "running": 3}
    monkeypatch.setattr(steps, "timed_first_line", lambda name, arguments: (9, stages))
    seen: list[tuple[str, float, float]] = []
    samples = measure(plan_of(tiny.path, options), lambda *state: seen.append(state))
    return samples, seen, FakeProcess.log


def test_every_figure_is_taken_in_every_round(tiny, monkeypatch):
    samples, seen, _ = measured(tiny, monkeypatch, BenchOptions(rounds=3, sequences=(4, 8)))
    assert len(samples.latency) == 4 * 4 and {len(visits) for visits in samples.latency.values()} == {3}
    assert len(samples.switching) == 3 * 2 and {len(item) for item in samples.switching.values()} == {3}
    assert len(samples.mixed) == 3 and {len(item) for item in samples.mixed.values()} == {3}
    assert len(samples.starts) == 4 * 2 and {len(item) for item in samples.starts.values()} == {3}
    assert len(samples.interpreter) == len(samples.engine_import) == 3
    assert samples.adding == {"switchable": [5]}
    assert samples.memory["bare"].all_tasks is None
    assert samples.memory["bank"].all_tasks is not None
    done = [before for _, before, _ in seen]
    assert done == sorted(done) and seen[-1][1] == seen[-1][2]


def test_runtimes_take_turns_cell_by_cell_and_begin_in_turn(tiny, monkeypatch):
    _, _, log = measured(tiny, monkeypatch, BenchOptions(rounds=4, batches=(1, 2), sequences=(4,)))
    turns = [name for name, request, _ in log if isinstance(request, MeasureLatency)]
    groups = [turns[start : start + 4] for start in range(0, len(turns), 4)]
    assert all(sorted(group) == ["bank", "bare", "folded", "switchable"] for group in groups)
    assert Counter(group[0] for group in groups) == dict.fromkeys(groups[0], 2)


def test_memory_is_measured_alone_and_the_rest_together(tiny, monkeypatch):
    _, _, log = measured(tiny, monkeypatch, BenchOptions(rounds=1))
    assert {living for _, request, living in log if isinstance(request, MeasureMemory)} == {1}
    assert {living for _, request, living in log if isinstance(request, MeasureLatency)} == {4}
    assert FakeProcess.living == []


def test_the_task_asked_for_is_the_one_that_runs(tiny, monkeypatch):
    _, _, log = measured(tiny, monkeypatch, BenchOptions(rounds=1, task="topic", threads=3, seconds=0.5))
    for _, request, _ in log:
        match request:
            case Load():
                assert (request.task, request.threads) == ("topic", 3)
            case MeasureLatency():
                assert (request.task, request.seconds) == ("topic", 0.5)
            case MeasureSwitching() | MeasureMixed():
                assert request.tasks[0] == "topic"


@given(st.lists(st.integers(), min_size=1), st.integers(0, 50))
def test_rotation_keeps_the_order(items, by):
    turned = rotated(items, by)
    assert turned[0] == items[by % len(items)]
    assert rotated(turned, len(items) - by % len(items)) == tuple(items)
