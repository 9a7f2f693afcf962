import inspect
import io
import json
import sys
from dataclasses import replace
from types import ModuleType
from typing import Any

import pytest
from click.testing import CliRunner
from rich.console import Console

from propetl.cli.main import main
from propetl.cli.validate_output import print_report, verdict
from propetl.runtime.report import TOLERANCES, Check, Comparison, Report
from tests.runtime.tiny_artifact import TASKS, write_tiny_artifact

OPTIONS = ("form", "provider", "threads", "device", "engine_cache", "precision", "backbone", "allow_pickle", "max_rows")


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
    for word in ("files 1", "task pack 4", "signature", "Against PyTorch", *TASKS):
        assert word in result.stdout
    last = result.stdout.splitlines()[-1]
    assert last.startswith(f"PASS {tiny.path}: checked: files 1, ") and "largest error of a logit" in last
    assert "4 tasks in folded, switchable, bank, largest error" in last
    assert result.stderr == ""


def test_json_on_standard_output_is_nothing_but_json(tiny):
    result = validate(tiny.path, "--json", "-", "--form", "bank", "--threads", "1")
    report = json.loads(result.stdout)
    assert (result.exit_code, report["passed"], report["breaches"]) == (0, True, [])
    assert {item["form"] for item in report["comparisons"]} == {"bank"}
    assert report["provider"] == "cpu"
    assert result.stderr.startswith("PASS ") and result.stderr.count("\n") == 1


def test_json_in_a_file(tiny, tmp_path):
    result = validate(tiny.path, "--json", tmp_path / "report.json")
    assert result.exit_code == 0
    assert json.loads((tmp_path / "report.json").read_text())["passed"] is True
    assert "signature" in result.stdout


def test_a_breach_exits_1_and_says_task_form_and_row(broken, tmp_path):
    result = validate(broken.path, "--json", tmp_path / "report.json")
    assert result.exit_code == 1
    line = result.stdout.splitlines()[-1]
    assert result.stderr == "" and sum(line.startswith(("PASS", "FAIL")) for line in result.stdout.splitlines()) == 1
    assert line.startswith(f"FAIL {broken.path}: task topic, form switchable (golden rows), row ")
    assert "(and 1 more)" in line
    report = json.loads((tmp_path / "report.json").read_text())
    assert report["passed"] is False
    assert len(report["breaches"]) == 2
    assert all(result.stdout.count(breach) == 1 for breach in report["breaches"])
    assert validate(broken.path, "--form", "folded").exit_code == 0


def test_damage_exits_1(tmp_path):
    tiny = write_tiny_artifact(tmp_path / "artifact")
    data = tiny.path / "backbone.data"
    data.write_bytes(data.read_bytes()[:-1])
    result = validate(tiny.path)
    assert result.exit_code == 1
    assert result.stdout.splitlines()[-1].startswith(f"FAIL {tiny.path}: files of the artifact: ")
    assert "backbone.data" in result.stdout


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--form", "melted"], "form 'melted' is not in"),
        (["--provider", "abacus"], "provider 'abacus' is not known"),
        (["--bundle", "b"], "--bundle and --data go together"),
        (["--data", "d"], "--bundle and --data go together"),
        (["--max-rows", "5"], "--backbone, --max-rows and --allow-pickle go with --bundle"),
        (["--backbone", "x"], "--backbone, --max-rows and --allow-pickle go with --bundle"),
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


def report_of(tasks, failing=()):
    """Every task in three forms and four ways, as a real validation has them."""
    ways = [(form, way) for form in ("folded", "switchable", "bank") for way in ("golden rows", "singly", "mixed", "b")]
    comparisons = tuple(
        replace(
            comparison(f"task-{index}" not in failing, 0.7),
            task=f"task-{index}",
            form=form,
            batching=way,
            max_abs=index * 1e-8,
            metrics_reference={"entity_precision": 0.75},
            metrics_artifact={"entity_precision": 0.75 - index / 1e4},
        )
        for index in range(tasks)
        for form, way in ways
    )
    checks = tuple(Check(name, f"{index}", True, "word") for name in ("files", "task pack") for index in range(tasks))
    return Report("demo/artifact", "cpu", "fp32", checks, comparisons)


def printed(report):
    console = Console(file=io.StringIO(), width=80)
    print_report(console, report)
    return [*console.file.getvalue().splitlines(), verdict(report)]


def lines_on_screen(lines):
    """How many a terminal of 80 columns shows: longer ones go on in the next."""
    return sum(max(1, -(-len(line) // 80)) for line in lines)


def test_ten_tasks_fit_on_a_screen():
    lines = printed(report_of(10))
    assert lines_on_screen(lines) <= 24
    rows = [line for line in lines if line.startswith("task-")]
    assert [row.split()[0] for row in rows] == [f"task-{index}" for index in range(9, -1, -1)]
    assert " ".join(rows[0].split()) == "task-9 12/12 ✓ 9.0e-08 100.0% entity_precision 0.7500 → 0.7491"
    assert "120 comparisons with PyTorch: 10 tasks in folded, switchable, bank" in lines[-1]
    assert "largest error of a logit 9.0e-08 (task task-9, form folded), allowed 1e-05 + 1e-05 × |refe" in lines[-1]


def test_of_many_tasks_those_that_fail_are_shown():
    lines = printed(report_of(300, failing=("task-0", "task-7")))
    rows = [line for line in lines if line.startswith("task-")]
    assert lines_on_screen(lines) <= 24 and len(rows) == 10
    assert "task-7" in rows[0] and "0/12 ✗" in rows[0] and "task-0" in rows[1] and "task-299" in rows[2]
    assert any("and 290 more tasks: --json FILE has all" in line for line in lines)
    assert lines[-1].startswith("FAIL demo/artifact: task task-0, form folded") and lines[-1].endswith("(and 23 more)")


def test_a_verdict_is_one_line_whatever_names_hold():
    report = Report("demo\nartifact\x1b[2J", "cpu", "fp32", (Check("files", "a\nb", False, "c\x07"),))
    assert verdict(report) == "FAIL demo artifact[2J: files of a b: c"
    assert verdict(Report("demo", "cpu", "fp32")) == "FAIL demo: nothing was checked"


def test_what_comparing_needs_is_missed_before_the_work(tiny, monkeypatch):
    monkeypatch.setitem(sys.modules, "propetl.export.parity", None)
    monkeypatch.setattr("propetl.cli.validate.self_test", lambda *_, **__: pytest.fail("work began"))
    assert validate(tiny.path, "--bundle", "b", "--data", "d").exit_code != 0


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
    options |= {"backbone": None, "allow_pickle": False, "max_rows": None}
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
    assert "FAIL" in result.stdout and ": task mood, form bank (data), row 41" in result.stdout.splitlines()[-1]


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
