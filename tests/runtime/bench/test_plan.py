import importlib.util
from dataclasses import replace

import pytest

from propetl.errors import (
    ArtifactError,
    BackendError,
    BundleError,
    ConfigurationError,
    MissingExtraError,
    TaskError,
)
from propetl.runtime.bench.messages import Cell, Vocabulary
from propetl.runtime.bench.plan import MOST_TASKS, BenchOptions, plan_of
from tests.runtime import tiny_artifact
from tests.runtime.tiny_artifact import MAX_LENGTH, TASKS, write_tiny_artifact
from tests.runtime.tiny_tokenizer import INPUTS, VOCABULARY


def test_the_defaults(tiny):
    plan = plan_of(tiny.path, BenchOptions())
    assert [runtime.name for runtime in plan.runtimes] == ["bare", "folded", "switchable", "bank"]
    assert plan.cells == (Cell(1, 16), Cell(8, 16))  # the artifact truncates to 32 tokens
    assert plan.switching == (Cell(1, 16),)
    assert plan.mixing == Cell(8, 16)
    assert (plan.task, plan.tasks) == ("mood", tuple(TASKS))
    assert plan.vocabulary == Vocabulary(len(VOCABULARY), 0, INPUTS)
    assert plan.notes == ()
    assert plan.settling_seconds == 0


def test_what_is_asked_for(tiny):
    options = BenchOptions(
        forms=("bank", "bank"), batches=(4, 2), sequences=(32, 8, 20), threads=2, task="topic", rounds=9
    )
    plan = plan_of(tiny.path, options)
    assert [runtime.name for runtime in plan.runtimes] == ["bare", "bank"]
    assert len(plan.cells) == 6
    assert plan.switching == (Cell(2, 32), Cell(2, 8), Cell(2, 20))
    assert plan.mixing == Cell(4, 20)
    assert plan.tasks[0] == plan.task == "topic"
    assert sorted(plan.tasks) == sorted(TASKS)
    assert plan.settling_seconds > 0
    assert plan.start_rounds == 5


def test_the_yardstick_alone(tiny):
    assert [runtime.name for runtime in plan_of(tiny.path, BenchOptions(forms=("bare",))).runtimes] == ["bare"]


def test_an_artifact_shorter_than_all_usual_lengths(tiny):
    plan = plan_of(tiny.path, BenchOptions(batches=(1,), usual_sequences=(64, 128)))
    assert plan.cells == (Cell(1, MAX_LENGTH),)
    assert plan.mixing == Cell(8, MAX_LENGTH)


def test_notes_say_what_is_not_measured(tmp_path):
    alone = write_tiny_artifact(tmp_path / "one", forms=("folded",), tasks={"mood": TASKS["mood"]})
    plan = plan_of(alone.path, BenchOptions())
    assert (plan.switching, plan.mixing) == ((), None)
    assert len(plan.notes) == 2
    assert "export it with --form bare" in plan.notes[0]
    assert "one task only" in plan.notes[1]


def test_few_of_many_tasks_take_turns(tmp_path, monkeypatch):
    many = {f"task{number}": TASKS["mood"] for number in range(MOST_TASKS + 2)}
    monkeypatch.setattr(tiny_artifact, "ROWS", {task: ["good film"] for task in many})
    crowd = write_tiny_artifact(tmp_path / "artifact", tasks=many)
    plan = plan_of(crowd.path, BenchOptions(task="task5"))
    assert plan.tasks == ("task5", "task0", "task1", "task2")
    assert plan.notes == ("switching and mixed batches use 4 of the 6 tasks",)


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"batches": (1, 0)}, "--batch takes numbers of at least 1; got 0"),
        ({"batches": ()}, "--batch takes at least one number"),
        ({"sequences": (-3,)}, "--seq takes numbers of at least 1; got -3"),
        ({"threads": 0}, "--threads takes numbers of at least 1; got 0"),
        ({"rounds": 0}, "--rounds takes numbers of at least 1; got 0"),
        ({"seconds": 0.0}, "--seconds takes a number above 0; got 0.0"),
        ({"seconds": float("nan")}, "--seconds takes a number above 0; got nan"),
        ({"seconds": float("inf")}, "--seconds takes a number above 0; got inf"),
        ({"sequences": (16, MAX_LENGTH + 1)}, "--seq 33: this artifact truncates to 32 tokens"),
        ({"forms": ("flat",)}, "form 'flat' is not in .*; it has folded, switchable, bank"),
    ],
)
def test_options_that_cannot_be(tiny, changes, message):
    with pytest.raises(ConfigurationError, match=message):
        plan_of(tiny.path, replace(BenchOptions(), **changes))


def test_things_that_are_not_there(tiny, tmp_path):
    with pytest.raises(TaskError, match="task 'none' is not in"):
        plan_of(tiny.path, BenchOptions(task="none"))
    with pytest.raises(BackendError, match="provider 'tpu' is not known"):
        BenchOptions(provider="tpu")
    with pytest.raises(ArtifactError, match="no artifact is there"):
        plan_of(tmp_path, BenchOptions())
    with pytest.raises(BundleError, match=r"bundle\.json"):
        plan_of(tiny.path, BenchOptions(bundle=tmp_path))
    bare_less = write_tiny_artifact(tmp_path / "artifact", forms=("bank",))
    with pytest.raises(ConfigurationError, match="form 'bare' is not in"):
        plan_of(bare_less.path, BenchOptions(forms=("bare",)))


def test_pytorch_that_is_not_installed(tiny, tmp_path, monkeypatch):
    monkeypatch.setattr(importlib.util, "find_spec", lambda name: None)
    with pytest.raises(MissingExtraError, match=r"'torch', which is not installed: .*pip install"):
        plan_of(tiny.path, BenchOptions(bundle=tmp_path))
