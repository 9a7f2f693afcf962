"""A session of JavaScript answers as one of Python, and refuses what that refuses."""

import shutil
import subprocess
from dataclasses import replace

import numpy as np
import pytest

from propetl.errors import ProPETLError
from propetl.runtime import Session
from propetl.task import TaskSpec
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.web.agreement import assert_same
from tests.runtime.web.node_packages import HERE, PACKAGES
from tests.runtime.web.web_artifact import write_web_artifact

FORMS = ("switchable", "bank", "folded")
MIXED = [(task, row) for turn in range(2) for task, rows in ROWS.items() for row in rows[turn : turn + 1]]
ADDED = TaskSpec("task", ("text",), labels=("red", "green", "blue", "grey"))


def new_pack(tiny, path, **changes):
    pack = replace(tiny.model.pack("colour", ADDED, seed=5), **changes)
    path.write_bytes(pack.to_bytes())
    return pack


def test_types(module):
    """JSDoc and code agree."""
    done = subprocess.run([PACKAGES / ".bin" / "tsc", "-p", HERE], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("form", FORMS)
def test_every_task_answers_as_in_python(ask, tiny, form):
    steps = [["tasks"], ["form"], *(["run", task, rows] for task, rows in ROWS.items())]
    steps += [["predict", task, rows] for task, rows in ROWS.items()] + [["runMixed", MIXED]]
    tasks, opened, *found, mixed = ask(tiny.path, steps, form=form, batchSize=2)
    with Session.open(tiny.path, form=form, batch_size=2) as session:
        assert (tasks, opened) == (list(session.tasks), session.form)
        for (task, rows), logits, answers in zip(ROWS.items(), found[: len(ROWS)], found[len(ROWS) :], strict=True):
            assert_same(logits, session.run(task, rows))
            for mine, theirs in zip(answers, session.predict(task, rows), strict=True):
                assert mine["label"] == theirs.label
                assert list(mine["scores"]) == list(theirs.scores)
                assert_same(mine["score"], theirs.score)
                assert_same(list(mine["scores"].values()), list(theirs.scores.values()))
        for mine, theirs in zip(mixed, session.run_mixed(MIXED), strict=True):
            assert_same(mine, theirs)


def test_the_first_form_there_is_runs(ask, tiny, tmp_path):
    assert ask(tiny.path, [["form"]]) == ["switchable"]
    other = write_web_artifact(tmp_path / "artifact", forms=("bank", "folded"))
    assert ask(other.path, [["form"]]) == ["folded"]


def test_tasks_are_applied_again_where_memory_is_for_none(ask, tiny):
    steps = [["runMixed", MIXED], ["runMixed", MIXED]]
    first, second = ask(tiny.path, steps, taskMemory=0)
    assert first == second == ask(tiny.path, steps[:1])[0]


def test_calls_may_overlap(ask, tiny):
    calls = [["run", task, rows] for task, rows in ROWS.items()] * 3
    assert ask(tiny.path, [["together", *calls]])[0] == ask(tiny.path, calls)


def test_calls_end_before_a_session_is_closed(ask, tiny):
    run = ["run", "mood", ROWS["mood"]]
    (expected,) = ask(tiny.path, [run])
    steps = [["together", run, run, ["close"]], run, ["close"], ["addTask", "nowhere"]]
    for form in ("switchable", "folded"):
        together, after, again, added = ask(tiny.path, steps, form=form)
        for found in together[:2]:
            for mine, theirs in zip(found, expected, strict=True):
                assert_same(mine, theirs)
        assert together[2] is None and again is None
        message = f"this session on {tiny.path} was closed; open it again"
        assert after == added == {"error": "ConfigurationError", "message": message}


@pytest.mark.parametrize("how", ["addTask", "addBytes"])
def test_a_pack_is_added_used_and_removed(ask, tiny, tmp_path, how):
    path = tmp_path / "colour.safetensors"
    pack = new_pack(tiny, path)
    rows = ["good film", "rain and wind"]
    steps = [[how, str(path)], ["tasks"], ["run", "colour", rows], [how, str(path)]]
    steps += [["removeTask", "colour"], ["run", "colour", rows], ["removeTask", "colour"]]
    name, tasks, logits, twice, removed, gone, again = ask(tiny.path, steps)
    assert (name, tasks, removed) == ("colour", [*ROWS, "colour"], None)
    assert_same(logits, tiny.expected("colour", rows, pack))
    assert twice["message"] == "task 'colour' is in this session already; remove it first, or rename the new one"
    assert gone == again == {
        "error": "TaskError",
        "message": "task 'colour' is not in this session; it has entails, likeness, mood, topic",
    }  # fmt: skip


REFUSED = [
    ("none", ["a"]),
    ("mood", ["a", " \u2003\x1f\x85"]),
    ("mood", ["a", ["a", "b"]]),
    ("entails", ["a"]),
    ("entails", [["a", ""]]),
    ("mood", ["a\ud800"]),
]
WORDED_OTHERWISE = [("mood", []), ("mood", "good film"), ("mood", [7]), ("mood", [None, "a"])]


def test_rows_are_refused_as_in_python(ask, tiny):
    rows = [*REFUSED, *WORDED_OTHERWISE]
    found = ask(tiny.path, [["run", *row] for row in rows])
    with Session.open(tiny.path) as session:
        for row, mine in zip(rows, found, strict=True):
            with pytest.raises(ProPETLError) as caught:
                session.run(*row)
            assert mine["error"] == type(caught.value).__name__
            assert "\n" not in mine["message"]
            if row in REFUSED:
                assert mine["message"] == str(caught.value)


@pytest.mark.parametrize(("form", "why"), [("bank", "the bank is a constant"), ("folded", "folded graphs are made")])
def test_packs_are_for_form_switchable(ask, tiny, tmp_path, form, why):
    new_pack(tiny, tmp_path / "pack")
    added, removed = ask(tiny.path, [["addTask", str(tmp_path / "pack")], ["removeTask", "mood"]], form=form)
    assert added["error"] == "TaskError"
    assert added["message"].startswith(f"task 'colour' cannot be added: {why}")
    assert (removed is None) == (form == "folded")


def foreign(tiny, path):
    new_pack(tiny, path, backbone_fingerprint="f" * 64)


def of_another_prototype(tiny, path):
    new_pack(tiny, path, prototype_sha256="0" * 64)


def changed(tiny, path):
    new_pack(tiny, path)
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)


def described_otherwise(tiny, path):
    new_pack(tiny, path)
    path.write_bytes(path.read_bytes().replace(b"green", b"greed"))


def cut(tiny, path):
    new_pack(tiny, path)
    path.write_bytes(path.read_bytes()[:-4])


def longer(tiny, path):
    new_pack(tiny, path)
    path.write_bytes(path.read_bytes() + b"\0")


def of_other_shapes(tiny, path):
    new_pack(tiny, path, head={"weight": np.zeros((4, 11), np.float32), "bias": np.zeros(4, np.float32)})


def without_a_mask(tiny, path):
    new_pack(tiny, path, masks={})


def not_finite(tiny, path):
    new_pack(tiny, path, head={"weight": np.full((4, 10), np.nan, np.float32), "bias": np.zeros(4, np.float32)})


def no_pack(tiny, path):
    path.write_bytes(b"\xff" * 100)


def empty(tiny, path):
    path.write_bytes(b"")


def missing(tiny, path):
    path.unlink(missing_ok=True)


def tagging(tiny, path):
    info = TaskSpec("task", ("text",), problem="tagging", labels=("O", "B"), metrics=("word_accuracy",))
    path.write_bytes(tiny.model.pack("tags", info, seed=5).to_bytes())


PACKS = {
    foreign: "TaskError",
    of_another_prototype: "TaskError",
    tagging: "TaskError",
    changed: "BundleError",
    described_otherwise: "BundleError",
    cut: "BundleError",
    longer: "BundleError",
    of_other_shapes: "BundleError",
    without_a_mask: "BundleError",
    not_finite: "BundleError",
    no_pack: "BundleError",
    empty: "BundleError",
    missing: "BundleError",
}


def test_packs_that_do_not_fit_change_nothing(ask, tiny, tmp_path):
    paths = {damage: tmp_path / f"{damage.__name__}.safetensors" for damage in PACKS}
    for damage, path in paths.items():
        damage(tiny, path)
    *found, tasks = ask(tiny.path, [*(["addTask", str(path)] for path in paths.values()), ["tasks"]])
    assert tasks == list(ROWS)
    assert {damage: mine["error"] for damage, mine in zip(PACKS, found, strict=True)} == PACKS
    assert not any("\n" in mine["message"] for mine in found)


USED = (
    "backbone.data",
    "tokenizer/tokenizer.json",
    "stages/apply/model.onnx",
    "stages/run/model.onnx",
    "tasks/mood.safetensors",
)
ONE = [["run", "mood", ["good film"]]]


@pytest.mark.parametrize("damage", ["changed", "cut", "gone"])
def test_no_byte_is_used_whose_hash_is_another(ask, tiny, tmp_path, damage):
    for name in USED:
        copy = tmp_path / name.replace("/", "-")
        shutil.copytree(tiny.path, copy)
        content = (copy / name).read_bytes()
        (copy / name).unlink()
        if damage != "gone":
            (copy / name).write_bytes(content[:-1] + (bytes([content[-1] ^ 1]) if damage == "changed" else b""))
    found = ask.many((tmp_path / name.replace("/", "-"), ONE, {}) for name in USED)
    for name, (mine,) in zip(USED, found, strict=True):
        assert mine["error"] == "ArtifactError"
        assert name in mine["message"] and "\n" not in mine["message"]


def _first_graph(value):
    return value["forms"]["switchable"]["stages"]["run"]["model"]


MANIFESTS = {
    "format": lambda value: value.update(format="other"),
    "version": lambda value: value.update(version=2),
    "precision": lambda value: value.update(precision="int1"),
    "length": lambda value: value.update(max_length="32"),
    "no tasks": lambda value: value.pop("tasks"),
    "labels": lambda value: value["tasks"]["mood"].update(labels=["good", "bad"]),
    "problem": lambda value: value["tasks"]["mood"].update(problem="ranking"),
    "pack of another": lambda value: value["tasks"]["mood"].update(pack="tasks/topic.safetensors"),
    "a path outside": lambda value: value["files"].update({"../x": value["files"].pop("backbone.data")}),
    "signature": lambda value: _first_graph(value)["inputs"][0].update(dtype="int32"),
    "no forms": lambda value: value["forms"].clear(),
    "no stages": lambda value: value["forms"]["switchable"].pop("stages"),
    "not listed": lambda value: value["files"].pop("backbone.data"),
}


def test_manifests_that_cannot_be_followed(ask, tiny, tmp_path):
    for name, change in MANIFESTS.items():
        shutil.copytree(tiny.path, tmp_path / name)
        replace(tiny, path=tmp_path / name).edit_manifest(change)
    found = ask.many((tmp_path / name, ONE, {}) for name in MANIFESTS)
    assert {name: mine[0]["error"] for name, mine in zip(MANIFESTS, found, strict=True)} == dict.fromkeys(
        MANIFESTS, "ArtifactError"
    )
    assert not any("\n" in mine[0]["message"] for mine in found)


def test_tasks_that_are_answered_in_text_are_refused_by_name(ask, own_tiny):
    own_tiny.edit_manifest(lambda value: value["tasks"]["mood"].update(problem="text", labels=[]))
    (found,) = ask(own_tiny.path, [])
    assert found["error"] == "TaskError"
    assert found["message"] == "tasks that are answered in text are not run here; run them in Python"


def test_a_graph_takes_weights_from_the_file_that_was_hashed_alone(ask, own_tiny, tmp_path, monkeypatch):
    graph = (own_tiny.path / "stages/run/model.onnx").read_bytes()
    assert graph.count(b"backbone.data") > 0
    own_tiny.rewrite("stages/run/model.onnx", graph.replace(b"backbone.data", b"backbone.dat2"))
    for folder in (tmp_path, own_tiny.path):
        (folder / "backbone.dat2").write_bytes((own_tiny.path / "backbone.data").read_bytes())
    monkeypatch.chdir(tmp_path)
    (found,) = ask(own_tiny.path, ONE)
    assert found["error"] == "ArtifactError", found


def test_answers_that_are_not_finite(ask, own_tiny):
    content = np.frombuffer((own_tiny.path / "backbone.data").read_bytes(), np.float32).copy()
    content[:] = np.inf
    own_tiny.rewrite("backbone.data", content.tobytes())
    (found,) = ask(own_tiny.path, [["predict", "mood", ["a", "good film"]]])
    assert found["error"] == "AnswerError"
    assert found["message"].startswith("row ") and "'mood'" in found["message"]


def test_options_out_of_range(ask, tiny):
    options = [{"form": "frozen"}, {"batchSize": 0}, {"threads": 1.5}, {"taskMemory": -1}]
    found = ask.many((tiny.path, [["tasks"]], one) for one in options)
    assert [mine[0]["error"] for mine in found] == ["ConfigurationError"] * len(options)


def test_no_artifact(ask, tmp_path):
    (found,) = ask(tmp_path / "nowhere", [])
    assert found["error"] == "ArtifactError"
    assert found["message"].endswith("; restore the folder from its source")
