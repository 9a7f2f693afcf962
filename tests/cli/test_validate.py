import inspect
import json
import sys
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.runtime.report import TOLERANCES, Comparison
from tests.runtime.tiny_artifact import TASKS, write_tiny_artifact

OPTIONS = ("form", "provider", "threads", "device", "engine_cache", "precision", "backbone", "max_rows")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_artifact(tmp_path_factory.mktemp("validate") / "artifact")


@pytest.fixture
def broken(tmp_path):
    """An artifact whose record of one mask is right and whose mask is not."""
    tiny = write_tiny_artifact(tmp_path / "artifact")
    pack = tiny.packs["topic"]
    pack.masks["up.weight"][0, 0] ^= 1
    tiny.rewrite("tasks/topic.safetensors", pack.to_bytes())
    return tiny


def validate(path, *arguments):
    return CliRunner().invoke(main, ["validate", str(path), *map(str, arguments)])


def test_a_good_artifact(tiny):
    result = validate(tiny.path)
    assert result.exit_code == 0, result.stderr
    for word in ("files", "task pack", "signature", "Logits against PyTorch", "switchable", "bank", *TASKS):
        assert word in result.stdout


def test_json_on_standard_output_is_nothing_but_json(tiny):
    result = validate(tiny.path, "--json", "-", "--form", "bank", "--threads", "1")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["passed"], report["breaches"]) == (0, True, [])
    assert {item["form"] for item in report["comparisons"]} == {"bank"}
    assert report["provider"] == "cpu"


def test_json_in_a_file(tiny, tmp_path):
    result = validate(tiny.path, "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "report.json").read_text())["passed"] is True
    assert "signature" in result.stdout


def test_a_breach_exits_1_and_says_task_form_and_row(broken, tmp_path):
    result = validate(broken.path, "--json", tmp_path / "report.json")
    assert result.exit_code == 1
    line = result.stderr
    assert line.count("\n") == 1
    assert "fails: task topic, form switchable (golden rows), row " in line
    assert "(and 1 more)" in line
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] is False
    assert len(report["breaches"]) == 2
    assert all(breach in result.stdout for breach in report["breaches"])
    assert validate(broken.path, "--form", "folded").exit_code == 0


def test_damage_exits_1(tmp_path):
    tiny = write_tiny_artifact(tmp_path / "artifact")
    data = tiny.path / "backbone.data"
    data.write_bytes(data.read_bytes()[:-1])
    result = validate(tiny.path)
    assert result.exit_code == 1
    assert "backbone.data" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "melted"], "form 'melted' is not in"),
        (["--provider", "abacus"], "provider 'abacus' is not known"),
        (["--bundle", "b"], "--bundle and --data go together"),
        (["--data", "d"], "--bundle and --data go together"),
        (["--max-rows", "5"], "--backbone and --max-rows go with --bundle"),
        (["--backbone", "x"], "--backbone and --max-rows go with --bundle"),
    ],
)
def test_wrong_use_exits_2(tiny, arguments, message):
    result = validate(tiny.path, *arguments)
    assert result.exit_code == 2
    assert message in result.stderr


def test_no_artifact_exits_2(tmp_path):
    result = validate(tmp_path)
    assert result.exit_code == 2
    assert "no artifact is there" in result.stderr


def comparison(passed, found):
    return Comparison(
        task="mood",
        form="bank",
        rows=277,
        max_abs=2e-7,
        max_rel=1e-7,
        tolerance=TOLERANCES["fp32"],
        agreement=1.0,
        worst_row=41,
        passed=passed,
        batching="data",
        metrics_reference={"accuracy": 0.75},
        metrics_artifact={"accuracy": found},
    )


@pytest.fixture
def parity(monkeypatch):
    """Stands in for the comparison with PyTorch, and keeps what it was asked."""
    module: Any = ModuleType("propetl.export.parity")
    module.asked = []
    module.answer = [comparison(True, 0.75)]

    def compare(artifact, bundle, data, **options):
        module.asked.append((str(artifact), str(bundle), data, options))
        return module.answer

    module.compare = compare
    monkeypatch.setitem(sys.modules, "propetl.export.parity", module)
    return module


def test_against_pytorch(tiny, parity):
    result = validate(tiny.path, "--bundle", "b", "--data", "d", "--form", "bank", "--threads", 1)
    assert result.exit_code == 0, result.stderr
    options = {"form": "bank", "provider": "cpu", "threads": 1, "device": 0, "engine_cache": None, "precision": None}
    options |= {"backbone": None, "max_rows": None}
    assert parity.asked == [(str(tiny.path), "b", "d", options)]
    validate(tiny.path, "--bundle", "b", "--data", "d", "--backbone", "x", "--max-rows", 5)
    assert parity.asked[1][3] == options | {"form": None, "threads": None, "backbone": "x", "max_rows": 5}
    report = json.loads(validate(tiny.path, "--bundle", "b", "--data", "d", "--json", "-").stdout)
    assert report["comparisons"][-1]["rows"] == 277
    assert report["comparisons"][-1]["metrics_artifact"] == {"accuracy": 0.75}


def test_a_difference_from_pytorch_exits_1(tiny, parity):
    parity.answer = [comparison(False, 0.74)]
    result = validate(tiny.path, "--bundle", "b", "--data", "d")
    assert result.exit_code == 1
    assert "fails: task mood, form bank (data), row 41" in result.stderr


def test_pytorch_is_not_asked_about_a_broken_artifact(broken, parity):
    assert validate(broken.path, "--bundle", "b", "--data", "d").exit_code == 1
    assert parity.asked == []


def test_alone_it_loads_nothing_of_training(tiny, monkeypatch):
    for name in ("torch", "transformers", "onnx", "propetl.export", "propetl.model"):
        monkeypatch.setitem(sys.modules, name, None)
    assert validate(tiny.path).exit_code == 0


def test_help_shows_examples():
    result = CliRunner().invoke(main, ["validate", "--help"])
    assert result.exit_code == 0
    assert "propetl validate out --bundle" in result.output


def test_the_real_comparison_takes_what_is_passed():
    """The stand-in above is called as the real one is declared."""
    from propetl.export.parity import compare

    declared = inspect.signature(compare).parameters
    assert [*declared] == ["artifact_path", "bundle_path", "data", *OPTIONS]
    assert all(declared[name].kind is inspect.Parameter.KEYWORD_ONLY for name in OPTIONS)
