"""From an artifact to its report, with real workers."""

import io
import json

import pytest
from rich.console import Console

from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.plot import check_plot, write_plot
from propetl.runtime.bench.report import Report
from propetl.runtime.bench.run import run_bench
from propetl.runtime.bench.table import print_report
from tests.runtime.tiny_artifact import TASKS, write_tiny_artifact

OPTIONS = BenchOptions(batches=(1, 3), sequences=(4, 9), rounds=2, seconds=0.002)
NAMES = ("bare", "folded", "switchable", "bank")


@pytest.fixture(scope="module")
def report(tiny) -> Report:
    return run_bench(plan_of(tiny.path, OPTIONS))


def test_latency(report):
    assert report.runtimes == NAMES
    cells = [(item.batch, item.sequence, item.runtime) for item in report.latency]
    assert cells == [(batch, length, name) for batch in (1, 3) for length in (4, 9) for name in NAMES]
    for item in report.latency:
        latency = item.latency
        assert 0 < latency.p50 <= latency.p90 <= latency.p95 <= latency.p99 <= latency.maximum
        assert latency.rows_per_second > 0 and latency.calls >= 2 * 3
        assert len(item.round_p50_ms) == 2
        assert (item.to_bare is None) == (item.runtime == "bare")
        assert item.to_bare is None or (item.to_bare.rounds == 2 and item.to_bare.minimum > 0)


def test_starts_and_memory(report):
    assert 0 < report.interpreter.median < report.engine_import.median
    assert tuple(item.runtime for item in report.starts) == NAMES
    for start in report.starts:
        assert start.trusted is not None and start.trusted.rounds == start.verified.rounds == 2
        stages = start.imports_ms + start.opening_ms + start.running_ms
        assert 0 < stages < start.verified.maximum
    assert tuple(item.runtime for item in report.memory) == NAMES
    for memory in report.memory:
        assert memory.stages.loaded.pss > 0 and memory.stages.run.pss > 0
        assert (memory.stages.all_tasks is None) == (memory.runtime == "bare")


def test_tasks(report):
    assert [(item.sequence, item.runtime) for item in report.switching] == [
        (length, name) for length in (4, 9) for name in NAMES[1:]
    ]
    assert all(item.batch == 1 and item.same_ms > 0 and item.tasks == 4 for item in report.switching)
    assert [item.runtime for item in report.mixed] == list(NAMES[1:])
    assert all((item.batch, item.sequence, item.tasks) == (3, 9, 3) for item in report.mixed)
    assert all(item.to_uniform.minimum > 0 for item in report.mixed)
    assert [item.runtime for item in report.adding] == ["switchable"]
    assert report.adding[0].ms.minimum > 0


def test_json_holds_it_all(report):
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert (value["format"], value["version"]) == ("propetl-bench", 1)
    assert value["artifact"]["tasks"] == list(TASKS)
    assert value["settings"]["rounds"] == 2
    assert value["conditions"]["versions"]["onnxruntime"]
    assert len(value["latency"]) == 16
    assert value["latency"][0]["to_bare"] is None
    assert set(value["latency"][1]["to_bare"]) == {"minimum", "median", "maximum", "rounds"}
    assert value["memory"][1]["stages"]["all_tasks"]["pss"] > 0
    assert len(value["switching"]) == 6 and len(value["mixed"]) == 3 and len(value["adding"]) == 1


def printed(report):
    stream = io.StringIO()
    print_report(Console(width=80, file=stream), report)
    return stream.getvalue()


def test_the_table_fits_a_terminal(report):
    text = printed(report)
    assert "…" not in text
    for expected in ("3 × 9", "switchable", "÷ bare", "onnxruntime", "adding a task", "2 rounds of 0.002 s"):
        assert expected in text


@pytest.mark.parametrize(("suffix", "start"), [(".png", b"\x89PNG"), (".svg", b"<?xml"), (".pdf", b"%PDF")])
def test_the_plot(report, tmp_path, suffix, start):
    path = tmp_path / f"bench{suffix}"
    check_plot(path)
    write_plot(report, path)
    assert path.read_bytes().startswith(start)
    assert list(tmp_path.iterdir()) == [path]


def test_without_yardstick_and_with_one_task(tmp_path):
    tiny = write_tiny_artifact(tmp_path / "artifact", forms=("bank",), tasks={"mood": TASKS["mood"]})
    options = BenchOptions(batches=(1,), sequences=(4,), rounds=1, seconds=0.001)
    report = run_bench(plan_of(tiny.path, options))
    assert [(item.runtime, item.to_bare) for item in report.latency] == [("bank", None)]
    assert not (report.switching or report.mixed or report.adding)
    assert report.memory[0].stages.all_tasks is None
    assert len([note for note in report.notes if note.startswith("no ")]) == 2
    assert "Tasks" not in printed(report)
    write_plot(report, tmp_path / "bench.png")
    assert (tmp_path / "bench.png").stat().st_size > 1000
