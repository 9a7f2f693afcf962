import json
import subprocess
import sys

import pytest
from click.testing import CliRunner

from propetl.cli import bench
from propetl.cli.main import main
from propetl.installation import install_line
from propetl.runtime.bench.plan import BenchOptions, plan_of
from tests.device_env import ROOT
from tests.runtime.tiny_artifact import write_tiny_artifact

SHORT = ["--batch", "1", "--seq", "4", "--rounds", "1", "--seconds", "0.001"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_artifact(tmp_path_factory.mktemp("bench") / "artifact")


def run(*arguments):
    return CliRunner().invoke(main, ["bench", *map(str, arguments)])


@pytest.fixture
def asked(monkeypatch):
    """Options that reach the plan; nothing is measured."""
    seen: list[BenchOptions] = []

    def stop(artifact, options):
        seen.append(options)
        raise SystemExit(0)

    monkeypatch.setattr(bench, "plan_of", stop)
    return seen


def test_a_whole_run(tiny, tmp_path):
    report, plot = tmp_path / "bench.json", tmp_path / "bench.png"
    line = [sys.executable, "-m", "propetl", "bench", tiny.path, "--form", "folded", "--form", "bank", *SHORT]
    done = subprocess.run(
        [*map(str, line), "--json", str(report), "--plot", str(plot)],
        cwd=ROOT,
        capture_output=True,
        text=True,
        timeout=120,
    )
    assert done.returncode == 0, done.stderr
    assert "Latency" in done.stdout and "first answer" in done.stdout.lower() and "1 × 4" in done.stdout
    value = json.loads(report.read_text())
    assert [item["runtime"] for item in value["latency"]] == ["bare", "folded", "bank"]
    assert plot.read_bytes().startswith(b"\x89PNG")
    assert sorted(tmp_path.iterdir()) == [report, plot]


def test_defaults_quick_and_flags(asked, tiny):
    run(tiny.path)
    run(tiny.path, "--quick")
    run(tiny.path, "--quick", "--rounds", "2", "--batch", "4,2", "--seq", "8", "--threads", "2")
    run(tiny.path, "--form", "folded", "--form", "bank", "--form", "bare", "--task", "mood", "--seconds", "0.5")
    default, quick, changed, forms = asked
    assert default == BenchOptions()
    assert (quick.batches, quick.usual_sequences, quick.rounds) == ((1,), (16, 128), 3)
    assert (changed.batches, changed.sequences, changed.rounds, changed.threads) == ((4, 2), (8,), 2, 2)
    assert changed.seconds == quick.seconds < default.seconds
    assert (forms.forms, forms.task, forms.seconds) == (("folded", "bank", "bare"), "mood", 0.5)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--batch", "1,x"], "'1,x' is not a list of whole numbers such as 1,8"),
        (["--batch", "0"], "--batch takes numbers of at least 1; got 0"),
        (["--new-tokens", "1"], "--new-tokens takes a number of at least 2"),
        (["--new-tokens", "8"], "--new-tokens is for tasks that are answered in text"),
        (["--beams", "2"], "--beams is for tasks that are answered in text"),
        (["--seq", "512"], "--seq 512: this artifact truncates to 32 tokens"),
        (["--form", "flat"], "form 'flat' is not in"),
        (["--task", "none"], "task 'none' is not in"),
        (["--provider", "tpu"], "provider 'tpu' is not known"),
        (["--json", "no/such/folder/x.json"], "there is no folder no/such/folder; make it first"),
        (["--json", "."], "a folder is there; give the name of a file"),
        (["--plot", "bench.gif"], "choose a name that ends in .png, .svg, .pdf"),
        (["--bundle", "nowhere"], "nowhere"),
    ],
)
def test_wrong_input_is_one_line_before_anything_runs(tiny, arguments, message):
    result = run(tiny.path, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert "Traceback" not in result.stderr
    assert result.stdout == ""


def test_a_plot_without_matplotlib(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    result = run(tiny.path, "--plot", "bench.png")
    assert result.exit_code == 2
    assert f"needs 'matplotlib', which is not installed: {install_line('plot')}" in result.stderr


def test_an_artifact_that_breaks_while_it_is_measured(tiny, monkeypatch, tmp_path):
    broken = write_tiny_artifact(tmp_path / "artifact")

    def plan_then_damage(path, options):
        plan = plan_of(path, options)
        (path / "bank" / "model.onnx").write_bytes(b"")
        return plan

    monkeypatch.setattr(bench, "plan_of", plan_then_damage)
    result = run(broken.path, *SHORT, "--json", tmp_path / "bench.json")
    assert result.exit_code == 2
    assert "bank/model.onnx" in result.stderr
    assert not (tmp_path / "bench.json").exists()


def test_help_shows_examples():
    result = run("--help")
    assert result.exit_code == 0
    assert "propetl bench demo/artifact --bundle demo/bundle" in result.stdout
