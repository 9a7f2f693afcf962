"""Forms in two stages: when packs are read, when masks are applied, and what is kept."""

import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest

import propetl.runtime.artifact as artifact_module
from propetl.errors import ArtifactError, BundleError
from propetl.runtime import Session
from propetl.runtime.artifact import Artifact, read_manifest
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.ort import OrtEngine
from propetl.runtime.forms.choose import open_form
from propetl.runtime.forms.staged import StagedForm
from propetl.runtime.forms.switchable import SwitchableForm
from tests.runtime.tiny_artifact import ROWS, TASKS
from tests.runtime.tiny_model import HIDDEN, LAYERS, RANK
from tests.runtime.tiny_tokenizer import token_ids

OPTIONS = EngineOptions(threads=1)


@pytest.fixture(params=["switchable", "bank"])
def form(request):
    return request.param


@pytest.fixture
def events(monkeypatch):
    """What is read and applied, as it happens."""
    seen, read, evaluate = [], Artifact.pack, OrtEngine.evaluate

    def reading(artifact, name):
        seen.append(f"read {name}")
        return read(artifact, name)

    def applying(engine, prepared):
        seen.append("apply")
        return evaluate(engine, prepared)

    monkeypatch.setattr(Artifact, "pack", reading)
    monkeypatch.setattr(OrtEngine, "evaluate", applying)
    return seen


def weights_bytes(task):
    """Applied weights of a task: two matrices in each layer, and the head."""
    outputs = TASKS[task].outputs
    return 4 * (LAYERS * 2 * RANK * HIDDEN + outputs * HIDDEN + outputs)


def test_masks_are_applied_once_per_task_and_packs_read_when_used(staged, form, events):
    with Session.open(staged.path, form=form, threads=1) as session:
        assert set(session.tasks) == set(TASKS)
        assert session.task("mood") == TASKS["mood"]
        session.check("mood", "good")
        assert events == []
        for _ in range(3):
            session.run("mood", ["good"])
        assert events == ["read mood", "apply"]
        session.run("topic", ["good"])
        session.run("mood", ["good"])
        assert events == ["read mood", "apply", "read topic", "apply"]
        session.run_mixed([("mood", "good"), ("topic", "sun"), ("mood", "bad")])
        assert events == ["read mood", "apply", "read topic", "apply"]


def test_the_budget_is_kept_and_the_least_recently_used_goes(staged, form, events):
    room = 3 * (weights_bytes("mood") + weights_bytes("topic")) // 2 + 3
    running = open_form(read_manifest(staged.path, hashing=True), form, OPTIONS, room)
    assert isinstance(running, StagedForm)
    for task in ("mood", "topic", "mood", "entails"):  # the third of these pushes topic out
        np.testing.assert_allclose(
            running.bind(task).infer(token_ids(ROWS[task])), staged.expected(task, ROWS[task]), atol=1e-5
        )
        assert running.task_bytes <= room
    applied = events.count("apply")
    running.bind("mood").infer(token_ids(ROWS["mood"]))
    assert events.count("apply") == applied
    running.bind("topic").infer(token_ids(ROWS["topic"]))
    assert events.count("apply") == applied + 1


def test_packs_stay_where_there_is_room_for_them_and_not_for_weights(staged, form, events):
    """A task that comes back is applied anew, and not read anew."""
    artifact = read_manifest(staged.path, hashing=True)
    packs = sum(sum(tensor.nbytes for tensor in pack.tensors().values()) for pack in staged.packs.values())
    room = 3 * packs
    assert weights_bytes("topic") < room - packs < weights_bytes("mood") + weights_bytes("topic")
    events.clear()
    running = open_form(artifact, form, OPTIONS, room)
    for task in (*TASKS, *TASKS):
        running.bind(task).infer(token_ids(ROWS[task]))
    assert events.count("apply") == 2 * len(TASKS)
    assert sorted(event for event in events if event != "apply") == sorted(f"read {task}" for task in TASKS)


def test_without_any_memory_every_call_applies_and_reads(staged, events):
    with Session.open(staged.path, form="switchable", threads=1, task_memory=0) as session:
        for _ in range(2):
            np.testing.assert_allclose(session.run("mood", ["good"]), staged.expected("mood", ["good"]), atol=1e-5)
        mixed = session.run_mixed([("mood", "good"), ("topic", "sun"), ("mood", "bad")])
        np.testing.assert_allclose(mixed[2], staged.expected("mood", ["bad"])[0], atol=1e-5)
    assert events.count("read mood") == 3 and events.count("read topic") == 1


def test_a_pack_that_changed_is_not_used(own_staged, form):
    """It is hashed when it is read; what was read before stays."""
    with Session.open(own_staged.path, form=form, threads=1) as session:
        session.run("mood", ["good"])
        for task, other in (("mood", "topic"), ("topic", "mood")):
            path = own_staged.path / f"tasks/{task}.safetensors"
            path.write_bytes(own_staged.packs[other].to_bytes())
        np.testing.assert_allclose(session.run("mood", ["good"]), own_staged.expected("mood", ["good"]), atol=1e-5)
        with pytest.raises(ArtifactError, match=r"tasks/topic\.safetensors"):
            session.run("topic", ["good"])
        (own_staged.path / "tasks/entails.safetensors").unlink()
        with pytest.raises(ArtifactError, match=r"tasks/entails\.safetensors is missing"):
            session.run_mixed([("mood", "good"), ("entails", ("good", "bad"))])
        np.testing.assert_allclose(session.run("mood", ["good"]), own_staged.expected("mood", ["good"]), atol=1e-5)


@pytest.mark.parametrize("stage", ["apply", "run"])
def test_a_changed_stage_is_found_when_it_is_opened(own_staged, form, stage):
    path = own_staged.path / f"stages/{stage}/model.onnx"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    with pytest.raises(ArtifactError, match=rf"stages/{stage}/model\.onnx.*SHA-256"):
        Session.open(own_staged.path, form=form)
    Session.open(own_staged.path, form="folded").close()


def test_damage_elsewhere_is_found_when_it_is_used(own_staged):
    """Opening hashes what it loads; the packs of a thousand other tasks are not touched."""
    (own_staged.path / "tasks/entails.safetensors").write_bytes(b"")
    (own_staged.path / "folded/topic/model.onnx").write_bytes(b"")
    with Session.open(own_staged.path, form="folded", threads=1) as session:
        session.run("mood", ["good"])
        with pytest.raises(ArtifactError, match=r"folded/topic/model\.onnx has 0 bytes"):
            session.run("topic", ["good"])
        with pytest.raises(BundleError, match=r"entails\.safetensors: not a readable"):
            session.run("entails", [("good", "bad")])


def test_the_one_graph_is_run_where_stages_are_not_wanted(staged):
    artifact = read_manifest(staged.path, hashing=True)
    assert isinstance(open_form(artifact, "switchable", EngineOptions(threads=1, staged=False)), SwitchableForm)
    assert isinstance(open_form(artifact, "switchable", OPTIONS), StagedForm)


def test_uniform_rows_need_no_weights_of_their_own(staged, form, monkeypatch):
    running = open_form(read_manifest(staged.path, hashing=True), form, OPTIONS)
    monkeypatch.setattr(OrtEngine, "stack", lambda *_: pytest.fail("weights were copied for each row"))
    feeds = token_ids(ROWS["topic"])
    logits = running.infer_mixed([running.bind("topic") for _ in ROWS["topic"]], feeds)
    np.testing.assert_allclose(np.stack(logits), staged.expected("topic", ROWS["topic"]), atol=1e-5)


def test_a_task_that_goes_frees_its_memory(staged, tmp_path):
    running = open_form(read_manifest(staged.path, hashing=True), "switchable", OPTIONS)
    for task in ("mood", "topic"):
        running.bind(task).infer(token_ids(ROWS[task]))
    before = running.task_bytes
    running.remove("topic")
    assert 0 < running.task_bytes < before - weights_bytes("topic")


def test_an_added_pack_outlives_its_file(staged, tmp_path):
    """It is read when it is added, and kept: also when its weights were pushed out."""
    pack = staged.model.pack("extra", TASKS["topic"], seed=9)
    path = tmp_path / "extra.safetensors"
    path.write_bytes(pack.to_bytes())
    with Session.open(staged.path, form="switchable", threads=1, task_memory=0) as session:
        session.add_task(path)
        path.unlink()
        for _ in range(2):
            expected = staged.expected("extra", ["good"], pack)
            np.testing.assert_allclose(session.run("extra", ["good"]), expected, atol=1e-5)


def test_eight_threads_push_each_others_tasks_out(staged, form):
    """Room for one task and a third: nearly every call finds its weights gone, and none gets another's."""
    random, barrier = Random(5), threading.Barrier(8)
    texts = ["good film", "rain", "a b c"]
    singles = [task for task, info in TASKS.items() if len(info.columns) == 1]
    expected = {(task, text): staged.expected(task, [text])[0] for task in singles for text in texts}
    calls = [[(random.choice(singles), random.choice(texts)) for _ in range(4)] for _ in range(400)]
    room = 2 * weights_bytes("topic")

    def worker(number, session):
        barrier.wait()
        wrong = 0
        for rows in calls[number::8]:
            found = [*session.run_mixed(rows), session.run(rows[0][0], [rows[0][1]])[0]]
            wanted = [expected[row] for row in (*rows, rows[0])]
            wrong += sum(not np.allclose(*pair, atol=1e-5) for pair in zip(found, wanted, strict=True))
        return wrong

    with (
        Session.open(staged.path, form=form, threads=1, task_memory=room) as session,
        ThreadPoolExecutor(8) as pool,
    ):
        assert sum(pool.map(lambda number: worker(number, session), range(8))) == 0


@pytest.mark.parametrize("held_up", ["the pack is read", "the text runs"])
def test_a_call_in_flight_keeps_nothing_of_a_removed_task(own_staged, monkeypatch, held_up):
    """A call stops at a barrier, its task is removed, the call ends with its answer: nothing of the task is left."""
    barrier = threading.Barrier(2, timeout=10)

    def stopping(method):
        def stopped(*arguments):
            barrier.wait()
            barrier.wait()
            return method(*arguments)

        return stopped

    with Session.open(own_staged.path, form="switchable", threads=1) as session:
        expected = session.run("topic", ROWS["topic"])
        running = session._running
        assert isinstance(running, StagedForm)
        before = running.task_bytes
        owner, name = (artifact_module, "parse_pack") if held_up == "the pack is read" else (OrtEngine, "run")
        monkeypatch.setattr(owner, name, stopping(getattr(owner, name)))
        with ThreadPoolExecutor(1) as pool:
            asked = pool.submit(session.run, "mood", ROWS["mood"][:1])
            barrier.wait()
            session.remove_task("mood")
            barrier.wait()
            np.testing.assert_allclose(asked.result(), own_staged.expected("mood", ROWS["mood"][:1]), atol=1e-5)
        monkeypatch.undo()
        assert running.task_bytes == before and "mood" not in session.tasks
        np.testing.assert_array_equal(session.run("topic", ROWS["topic"]), expected)
