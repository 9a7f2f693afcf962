"""The benchmark of tasks that are answered in text: tokens timed one by one, every form beside transformers."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest
import torch
from click.testing import CliRunner
from rich.console import Console

from propetl.cli.main import main
from propetl.errors import BackendError, ConfigurationError
from propetl.export.eager import load_eager
from propetl.runtime.bench.generating_subject import GeneratingSubject
from propetl.runtime.bench.messages import Cell, Load, MeasureLatency, MeasureSwitching, MeasureTokens
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.plot import write_plot
from propetl.runtime.bench.report import report_of
from propetl.runtime.bench.run import run_bench
from propetl.runtime.bench.subjects import load_subject
from propetl.runtime.bench.table import print_report
from propetl.runtime.bench.tokens import feeds_of
from propetl.runtime.bench.worker import Worker
from tests.export.random_text_artifact import TASKS

CELL = Cell(3, 7)
FORMS = ("folded", "switchable", "bank")
OPTIONS = BenchOptions(batches=(2,), sequences=(5,), new_tokens=4, rounds=1, seconds=0.001)


@pytest.fixture(scope="module")
def plan(text_artifact):
    return plan_of(text_artifact.artifact, OPTIONS)


@pytest.fixture
def threads():
    before = torch.get_num_threads()
    yield
    torch.set_num_threads(before)


def load_of(plan, source, runtime, new_tokens=6, beams=1):
    return Load(str(source), runtime, "mood", "cpu", 1, plan.vocabulary, new_tokens=new_tokens, beams=beams)


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("beams", [1, 3])
def test_every_runtime_generates_the_same_tokens_and_as_many_as_it_is_told(plan, text_artifact, beams):
    feeds = feeds_of(CELL, plan.vocabulary)
    eager = load_eager(load_of(plan, text_artifact.bundle.path, "eager", beams=beams))
    expected = eager.run("mood", feeds)
    assert expected.shape == (3, 6)
    mixed = ["mood", "degree", "mood"]
    wanted = eager.run_mixed(mixed, feeds)
    for form in FORMS:
        subject = load_subject(load_of(plan, text_artifact.artifact, form, beams=beams))
        assert isinstance(subject, GeneratingSubject)
        np.testing.assert_array_equal(subject.run("mood", feeds), expected)
        found = subject.run_mixed(mixed, feeds)
        assert isinstance(found, list)
        np.testing.assert_array_equal(np.stack(found), np.stack(wanted))


@pytest.mark.usefixtures("threads")
@pytest.mark.parametrize("runtime", ["eager", "switchable"])
@pytest.mark.parametrize("beams", [1, 2])
def test_every_token_has_a_time_in_order(plan, text_artifact, runtime, beams):
    bundle, artifact = text_artifact.bundle.path, text_artifact.artifact
    worker = Worker(load_eager if runtime == "eager" else load_subject)
    worker.answer(load_of(plan, bundle if runtime == "eager" else artifact, runtime, beams=beams))
    answer = worker.answer(MeasureTokens("mood", CELL, 0.0, 2))
    assert len(answer["calls"]) == 2 and answer["preempted"] >= 0
    for times in answer["calls"]:
        assert len(times) == 6 and times == sorted(set(times)) and times[0] > 0


def test_a_runtime_with_heads_has_no_tokens_to_time(exported):
    load = Load(str(exported.artifact), "bank", "two", "cpu", 1, plan_of(exported.artifact, BenchOptions()).vocabulary)
    worker = Worker(load_subject)
    worker.answer(load)
    with pytest.raises(BackendError, match="generates none"):
        worker.answer(MeasureTokens("two", CELL, 0.0, 1))


def test_the_plan(plan, text_artifact):
    assert [runtime.name for runtime in plan.runtimes] == list(FORMS)
    assert (plan.new_tokens, plan.beams, plan.cells) == (4, 1, (Cell(2, 5),))
    assert plan.notes == ("no ratios: give --bundle to measure transformers' generate beside",)
    usual = plan_of(text_artifact.artifact, BenchOptions(bundle=text_artifact.bundle.path))
    assert usual.new_tokens == 32 and usual.notes == ()
    longest = usual.artifact.manifest.max_length
    assert usual.cells == tuple(Cell(batch, min(64, longest)) for batch in (1, 8))
    with pytest.raises(ConfigurationError, match="--new-tokens takes a number of at least 2"):
        replace(OPTIONS, new_tokens=1)
    with pytest.raises(ConfigurationError, match="--beams takes numbers of at least 1; got -1"):
        replace(OPTIONS, beams=-1)


@pytest.mark.parametrize("changes", [{"new_tokens": 8}, {"beams": 2}])
def test_heads_generate_no_tokens(exported, changes):
    with pytest.raises(ConfigurationError, match="is for tasks that are answered in text; those here have heads"):
        plan_of(exported.artifact, BenchOptions(**changes))


@pytest.mark.slow
def test_from_the_artifact_to_its_report(plan, tmp_path):
    report = run_bench(plan)
    assert [item.runtime for item in report.generation] == list(FORMS)
    for item, latency in zip(report.generation, report.latency, strict=True):
        assert (item.batch, item.sequence, item.new_tokens, item.beams) == (2, 5, 4, 1)
        assert item.step.calls == 3 * item.first.calls == 3 * latency.latency.calls > 0
        assert 0 < item.first.p50 + 3 * item.step.mean < 3 * latency.latency.maximum
        assert item.tokens_per_second.rounds == 1 and item.to_eager is None
    assert [item.runtime for item in report.switching] == [item.runtime for item in report.mixed] == list(FORMS)
    assert [item.runtime for item in report.adding] == ["switchable"]
    assert all(start.running_ms > 0 for start in report.starts)
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["settings"]["new_tokens"] == 4 and len(value["generation"]) == 3
    stream = io.StringIO()
    print_report(Console(width=80, file=stream), report)
    assert "Generation of 4 tokens" in stream.getvalue() and "…" not in stream.getvalue()
    write_plot(report, tmp_path / "bench.svg")
    assert b"from a token to the next" in (tmp_path / "bench.svg").read_bytes()


@pytest.mark.slow
def test_beside_transformers(text_artifact, tmp_path):
    report = tmp_path / "bench.json"
    short = ["--form", "switchable", "--batch", "1", "--seq", "4", "--rounds", "1", "--seconds", "0.001"]
    line = ["bench", str(text_artifact.artifact), "--bundle", str(text_artifact.bundle.path), *short]
    done = CliRunner().invoke(main, [*line, "--new-tokens", "3", "--beams", "2", "--json", str(report)])
    assert done.exit_code == 0, done.stderr
    ours, eager = json.loads(report.read_text())["generation"]
    assert (ours["runtime"], eager["runtime"], eager["to_eager"]) == ("switchable", "eager", None)
    ratio = ours["tokens_per_second"]["median"] / eager["tokens_per_second"]["median"]
    assert ours["to_eager"]["median"] == pytest.approx(ratio)
    assert (ours["beams"], ours["new_tokens"]) == (2, 3)


def test_figures_of_tokens(plan, text_artifact):
    """Two rounds of one call each: first token, then steps of 2 and 3 ms, or of twice that."""
    from tests.runtime.bench.test_report import CONDITIONS

    half = replace(plan, options=replace(OPTIONS, new_tokens=3, rounds=2), runtimes=plan.runtimes[:1])
    samples = _samples(half, [[[5, 7, 10]], [[10, 14, 20]]])
    (item,) = report_of(half, samples, CONDITIONS).generation
    assert (item.first.p50, item.first.maximum) == (7.5, 10.0)
    assert (item.step.calls, item.step.p50, item.step.maximum) == (4, 3.5, 6.0)
    assert (item.tokens_per_second.maximum, item.tokens_per_second.minimum) == pytest.approx((600.0, 300.0))
    assert set(TASKS) == set(plan.tasks)


def _samples(plan, rounds):
    from propetl.runtime.bench.samples import TRUSTED, VERIFIED, Samples, Start, Visit

    scaled = [[[1_000_000 * time for time in times] for times in calls] for calls in rounds]
    samples = Samples(interpreter=[1, 1], engine_import=[2, 2])
    (runtime,), (cell,) = plan.runtimes, plan.cells
    samples.tokens[runtime.name, cell] = scaled
    samples.latency[runtime.name, cell] = [Visit([times[-1] for times in calls], 0) for calls in scaled]
    for kind in (VERIFIED, TRUSTED):
        samples.starts[runtime.name, kind] = [Start(9, 1, 2, 3)] * 2
    return samples


def test_switching_is_timed_over_whole_generations(plan, text_artifact):
    worker = Worker(load_subject)
    worker.answer(load_of(plan, text_artifact.artifact, "switchable", new_tokens=2))
    pairs = worker.answer(MeasureSwitching(plan.tasks, CELL, 0.0))["pairs"]
    calls = worker.answer(MeasureLatency("mood", CELL, 0.0, 3))["ns"]
    assert len(pairs) == 3 and min(calls) > 0
