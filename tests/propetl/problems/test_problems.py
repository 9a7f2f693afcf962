"""The kinds of problem: one object each, told apart by nobody else."""

import json
import re
import subprocess
import sys

import numpy as np
import pytest

from propetl.bundle.text import TextInfo
from propetl.problems import PROBLEMS
from tests.device_env import ROOT
from tests.tiny_bundle import tagging_info, task_info, text_task_info

TASKS = {
    "classification": task_info(3),
    "regression": task_info(0),
    "tagging": tagging_info(("O", "B-X")),
    "text": text_task_info(TextInfo("say {}", words=("no", "yes"))),
}
ANSWERS = {
    "classification": np.zeros(3, np.float32),
    "regression": np.ones(1, np.float32),
    "tagging": np.array([[0, 1], [np.nan, np.nan]], np.float32),
    "text": "yes",
}
LINES = {
    "classification": ["label", "score", "scores"],
    "regression": ["label", "score", "scores"],
    "tagging": ["words"],
    "text": ["label", "score", "generated", "scores"],
}


def test_a_kind_is_called_as_it_is_registered() -> None:
    assert {name: kind.name for name, kind in PROBLEMS.items()} == {name: name for name in PROBLEMS}
    assert {*TASKS} == {*PROBLEMS}


@pytest.mark.parametrize("name", PROBLEMS)
def test_the_keys_of_a_line(name: str) -> None:
    prediction = TASKS[name].kind.prediction(TASKS[name], ANSWERS[name], "two words")
    assert list(prediction.line(scores=True)) == LINES[name]
    assert list(prediction.line(scores=False)) == [key for key in LINES[name] if key != "scores"]


@pytest.mark.parametrize("scores", [True, False])
@pytest.mark.parametrize("name", PROBLEMS)
def test_a_table_has_a_cell_for_each_column(name: str, scores: bool) -> None:
    task, kind = TASKS[name], PROBLEMS[name]
    lines = kind.lines(task, kind.prediction(task, ANSWERS[name], "two words"), scores)
    assert {len(cells) for cells in lines} == {len(kind.columns(task, scores))}
    assert len(lines) == (2 if name == "tagging" else 1)


def test_a_device_imports_the_kinds_alone() -> None:
    code = "import json, sys, propetl.problems; print(json.dumps(sorted(sys.modules)))"
    done = subprocess.run([sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, timeout=60)
    ours = {name for name in json.loads(done.stdout) if name.startswith("propetl.")}
    assert {name.split(".")[1] for name in ours} <= {"bundle", "errors", "fields", "problems"}
    assert "torch" not in done.stdout


def test_nobody_else_tells_kinds_apart() -> None:
    """But the module that says where tasks answer, which decides what graphs they share."""
    asks = re.compile(r"per_token|\bproblem (==|!=) |\.text is (not )?None|\.kind\.at\b")
    sources = [path for name in ("propetl", "runtime", "export", "cli") for path in (ROOT / name).rglob("*.py")]
    found = [path for path in sources if "problems" not in path.parts and asks.search(path.read_text("utf-8"))]
    assert found == [ROOT / "export" / "layouts.py"]
