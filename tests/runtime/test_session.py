import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from random import Random

import numpy as np
import pytest

import propetl.runtime.forms.folded as folded
from propetl.bundle.text import TextInfo
from propetl.errors import ArtifactError, BackendError, BundleError, ConfigurationError, TaskError
from propetl.runtime import Session
from propetl.runtime.artifact import MANIFEST
from propetl.runtime.engines import load_engine
from propetl.runtime.engines.ort import OrtEngine
from propetl.task import TaskSpec
from tests.runtime.tiny_artifact import ROWS, TASKS
from tests.runtime.tiny_model import TinyModel
from tests.runtime.tiny_tokenizer import WORDS, token_ids

RUNNING_FORMS = ("folded", "switchable", "bank")
MIXED = [(task, row) for place in range(4) for task, rows in ROWS.items() for row in rows[place : place + 1]]
EXTRA = TaskSpec("task", ("text",), labels=("x", "y", "z", "w"))


# How a form can be run: in one graph, or in two stages.
WAYS = [*(("tiny", form) for form in RUNNING_FORMS), ("staged", "switchable"), ("staged", "bank")]


@pytest.fixture(params=WAYS, ids="-".join)
def session(request):
    made, form = request.param
    with Session.open(request.getfixturevalue(made).path, form=form, threads=1) as session:
        yield session


@pytest.fixture(params=["tiny", "staged"])
def switchable(request):
    with Session.open(request.getfixturevalue(request.param).path, form="switchable", threads=1) as session:
        yield session


@pytest.fixture
def extra_pack(tiny, tmp_path):
    """A task that was trained after export, as a file."""
    pack = tiny.model.pack("extra", EXTRA, seed=7)
    (tmp_path / "extra.safetensors").write_bytes(pack.to_bytes())
    return pack, tmp_path / "extra.safetensors"


def close(left, right):
    return left.shape == right.shape and np.allclose(left, right, atol=1e-5)


def some_texts(random, count):
    return [" ".join(random.choices(WORDS, k=random.randint(1, 20))) for _ in range(count)]


def some_rows(random, task, count):
    if len(TASKS[task].columns) == 1:
        return some_texts(random, count)
    return [(left[:40].rsplit(" ", 1)[0], right[:20].rsplit(" ", 1)[0]) for left, right in zip(
        some_texts(random, count), some_texts(random, count), strict=True)]  # fmt: skip


def test_logits_of_every_task(session, tiny):
    assert set(session.tasks) == set(TASKS)
    for task, rows in ROWS.items():
        logits = session.run(task, rows)
        assert logits.dtype == np.float32
        np.testing.assert_allclose(logits, tiny.expected(task, rows), atol=1e-5)


def test_predictions(session, tiny):
    for prediction, row in zip(session.predict("topic", ROWS["topic"]), ROWS["topic"], strict=True):
        logits = tiny.expected("topic", [row])[0]
        assert prediction.label == TASKS["topic"].labels[int(logits.argmax())]
        assert sum(prediction.scores.values()) == pytest.approx(1)
    (value,) = session.predict("likeness", [("one", "two")])
    assert value.label is None
    assert value.score == pytest.approx(tiny.expected("likeness", [("one", "two")])[0, 0], abs=1e-5)


def test_token_ids_give_what_texts_give(session):
    for task, rows in ROWS.items():
        feeds = token_ids(rows)
        np.testing.assert_allclose(session.run(task, feeds), session.run(task, rows), atol=1e-5)
        assert session.predict(task, feeds)[0].label == session.predict(task, rows)[0].label
    singles = token_ids(ROWS["mood"])
    del singles["token_type_ids"]
    np.testing.assert_allclose(session.run("mood", singles), session.run("mood", ROWS["mood"]), atol=1e-5)


@pytest.mark.parametrize("batch_size", [1, 3, 1000])
def test_any_number_of_rows_in_their_order(tiny, batch_size):
    texts = some_texts(Random(1), 101)
    with Session.open(tiny.path, form="folded", batch_size=batch_size, threads=1) as session:
        logits = session.run("topic", texts)
        np.testing.assert_allclose(session.run("topic", token_ids(texts)), logits, atol=1e-5)
    np.testing.assert_allclose(logits, tiny.expected("topic", texts), atol=1e-5)


@pytest.fixture
def batch_sizes(monkeypatch):
    """Rows of every run of an engine, as they happen."""
    sizes, run = [], OrtEngine.run

    def counted(engine, feeds, prepared):
        sizes.append(len(feeds["input_ids"]))
        return run(engine, feeds, prepared)

    monkeypatch.setattr(OrtEngine, "run", counted)
    return sizes


def test_no_batch_is_larger_than_asked(tiny, batch_sizes):
    with Session.open(tiny.path, form="bank", batch_size=4, threads=1) as session:
        session.run("mood", some_texts(Random(0), 10))
        session.run("mood", token_ids(some_texts(Random(0), 10)))
        session.run_mixed([("mood", text) for text in some_texts(Random(0), 10)])
    assert batch_sizes == [4, 4, 2] * 3


def test_long_texts_are_cut_as_in_training(session, tiny):
    words = WORDS * 5
    cut = " ".join(words[: 32 - 2])
    np.testing.assert_allclose(session.run("mood", [" ".join(words)]), tiny.expected("mood", [cut]), atol=1e-5)


def test_mixed_rows_in_their_order(session, tiny):
    logits = session.run_mixed(MIXED)
    assert len(logits) == len(MIXED)
    for (task, row), found in zip(MIXED, logits, strict=True):
        np.testing.assert_allclose(found, tiny.expected(task, [row])[0], atol=1e-5)
    predictions = session.predict_mixed(iter(MIXED))
    for (task, row), prediction in zip(MIXED, predictions, strict=True):
        assert prediction.label == session.predict(task, [row])[0].label


def test_who_runs_tasks_together(tiny, staged, batch_sizes):
    counts = {}
    for made, form in WAYS:
        with Session.open((staged if made == "staged" else tiny).path, form=form, threads=1) as session:
            batch_sizes.clear()
            session.run_mixed(MIXED)
            counts[made, form] = len(batch_sizes)
    assert counts == {
        ("tiny", "bank"): 1,
        ("tiny", "folded"): len(TASKS),
        ("tiny", "switchable"): len(TASKS),
        ("staged", "switchable"): 1,
        ("staged", "bank"): 1,
    }


def test_an_unknown_task(session):
    for use in (
        lambda: session.run("sst2", ["good"]),
        lambda: session.predict("sst2", ["good"]),
        lambda: session.run_mixed([("mood", "good"), ("sst2", "good")]),
        lambda: session.task("sst2"),
        lambda: session.remove_task("sst2"),
    ):
        with pytest.raises(TaskError, match="'sst2' is not in this session; it has entails, likeness, mood, topic"):
            use()
    with pytest.raises(TaskError, match=r"\['mood'\] is not in this session"):
        session.run(["mood"], ["good"])


def test_rows_that_do_not_fit_are_named(session):
    with pytest.raises(TaskError, match="row 1: task 'mood' takes one text"):
        session.run("mood", ["good", ("a", "b")])
    with pytest.raises(TaskError, match="row 2: task 'entails' takes a pair"):
        session.run_mixed([("mood", "good"), ("entails", ("a", "b")), ("entails", "a")])
    with pytest.raises(ConfigurationError, match="row 0: text is blank"):
        session.predict("mood", [" "])
    with pytest.raises(ConfigurationError, match="no rows were given"):
        session.run("mood", [])
    with pytest.raises(ConfigurationError, match="no rows were given"):
        session.run_mixed([])
    with pytest.raises(ConfigurationError, match="line 9: text is blank"):
        session.check("mood", "", "line 9")


def test_ids_beyond_the_vocabulary(session):
    feeds = token_ids(["good"])
    with pytest.raises(BackendError, match="refused the inputs"):
        session.run("mood", feeds | {"input_ids": feeds["input_ids"] + 1000})


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"form": "melted"}, ConfigurationError, "form 'melted' is not in"),
        ({"provider": "abacus"}, BackendError, "provider 'abacus' is not known"),
        ({"batch_size": 0}, ConfigurationError, "batch_size must be a whole number from 1 to 2147483647; got 0"),
        ({"batch_size": 8.0}, ConfigurationError, r"batch_size .*; got 8\.0"),
        ({"batch_size": True}, ConfigurationError, "batch_size .*; got True"),
        ({"threads": "2"}, ConfigurationError, "threads .*; got '2'"),
        ({"threads": 10**30}, ConfigurationError, "threads .*; got a number of many digits"),
        ({"threads": np.float32(1)}, ConfigurationError, "threads "),
        ({"device": np.bool_(True)}, ConfigurationError, "device, the number of a GPU, must be"),
        ({"task_memory": 1e6}, ConfigurationError, "task_memory, "),
        ({"provider": ["cpu"]}, BackendError, r"provider \['cpu'\] is not known"),
        ({"threads": -1}, ConfigurationError, "threads must be a whole number from 1 to 1024; got -1"),
        ({"memory": "none"}, ConfigurationError, "memory is one of fast, small"),
        ({"task_memory": -1}, ConfigurationError, "task_memory, .* of at least 0; got -1"),
    ],
)
def test_options_that_cannot_be(tiny, options, error, message):
    with pytest.raises(error, match=message):
        Session.open(tiny.path, **options)


def test_damage_is_found_before_anything_runs(own_tiny):
    data = own_tiny.path / "backbone.data"
    data.write_bytes(data.read_bytes()[:-4] + b"\0\0\0\0")
    with pytest.raises(ArtifactError, match=r"backbone\.data.*SHA-256"):
        Session.open(own_tiny.path)


def test_the_default_form_is_told(tiny):
    with Session.open(tiny.path) as session:
        assert session.form == "switchable"


def test_memory_small_gives_the_same(tiny):
    for form in RUNNING_FORMS:
        with Session.open(str(tiny.path), form=form, memory="small", verify=False) as session:
            np.testing.assert_allclose(
                session.run_mixed(MIXED)[3], tiny.expected(*[MIXED[3][0], [MIXED[3][1]]])[0], atol=1e-5
            )


def test_folded_loads_a_graph_when_it_is_first_used(tiny, monkeypatch):
    loaded = []

    def counted(artifact, graph, options):
        loaded.append(graph.path)
        return load_engine(artifact, graph, options)

    monkeypatch.setattr(folded, "load_engine", counted)
    with Session.open(tiny.path, form="folded", threads=1) as session:
        assert loaded == []
        session.run("mood", ["good"])
        session.run("mood", ["bad"])
        assert loaded == ["folded/mood/model.onnx"]
        barrier = threading.Barrier(8)

        def first_use(_):
            barrier.wait()
            return session.run("topic", ["good"])

        with ThreadPoolExecutor(8) as pool:
            list(pool.map(first_use, range(8)))
        assert loaded == ["folded/mood/model.onnx", "folded/topic/model.onnx"]


def test_a_new_task_on_a_live_session(switchable, tiny, extra_pack):
    pack, path = extra_pack
    assert switchable.add_task(path) == "extra"
    assert switchable.tasks == (*TASKS, "extra")
    expected = tiny.expected("extra", ROWS["mood"], pack)
    np.testing.assert_allclose(switchable.run("extra", ROWS["mood"]), expected, atol=1e-5)
    assert switchable.predict("extra", ["good"])[0].label in EXTRA.labels
    np.testing.assert_allclose(switchable.run("mood", ["good"]), tiny.expected("mood", ["good"]), atol=1e-5)
    with pytest.raises(TaskError, match="task 'extra' is in this session already"):
        switchable.add_task(str(path))
    switchable.remove_task("extra")
    assert switchable.tasks == tuple(TASKS)
    with pytest.raises(TaskError, match="'extra' is not in this session"):
        switchable.run("extra", ["good"])
    switchable.add_task(path)
    np.testing.assert_allclose(switchable.run("extra", ROWS["mood"]), expected, atol=1e-5)


def test_tasks_of_other_forms_are_fixed(tiny, staged, extra_pack):
    bank = "the bank is a constant"
    ways = ((tiny, "folded", "folded graphs are made by export"), (tiny, "bank", bank), (staged, "bank", bank))
    for made, form, reason in ways:
        with Session.open(made.path, form=form) as session:
            with pytest.raises(TaskError, match=f"task 'extra' cannot be added: {reason}.*open form switchable"):
                session.add_task(extra_pack[1])
            assert set(session.tasks) == set(TASKS)


def test_removing_a_task(tiny, staged):
    with Session.open(tiny.path, form="folded") as session:
        session.run("mood", ["good"])
        for task in ("mood", "topic"):  # loaded and not loaded
            session.remove_task(task)
            with pytest.raises(TaskError, match=f"task '{task}' is not in this session; it has"):
                session.run(task, ["good"])
    for made in (tiny, staged):
        with Session.open(made.path, form="bank") as session:
            with pytest.raises(TaskError, match="task 'mood' cannot be removed: the bank is a constant"):
                session.remove_task("mood")
            assert "mood" in session.tasks


def test_packs_that_do_not_belong_here(switchable, tiny, tmp_path):
    pack, other, path = tiny.model.pack("extra", EXTRA, seed=7), TinyModel(seed=1), tmp_path / "p.safetensors"
    dense = {"dense.weight": np.zeros((10, 10), np.float32), "dense.bias": np.zeros(10, np.float32)}
    short = {name: mask[:, :-1] for name, mask in pack.masks.items()}
    stray = pack.masks | {"down.weight": pack.masks["down.weight"] | 0x80}
    wide = pack.head | {"weight": np.zeros((4, 11), np.float32)}
    asked = TaskSpec("task", ("text",), problem="text", labels=("a", "b"), text=TextInfo("say {}", ("a", "b")))
    for wrong, error, message in (
        (replace(pack, prototype_sha256=other.prototype_sha256), TaskError, "made for prototype"),
        (replace(pack, backbone_fingerprint=other.fingerprint), TaskError, "made for backbone"),
        (replace(pack, head=pack.head | dense), TaskError, "its head is of kind 'own'"),
        (replace(pack, masks=short), BundleError, r"down\.weight is uint8\[2, 3\], expected uint8\[2, 4\]"),
        (replace(pack, masks=stray), BundleError, "bits beyond its 30 entries"),
        (replace(pack, head=wide), BundleError, r"weight is float32\[4, 11\]"),
        (replace(pack, masks={}), BundleError, "expected tensors"),
        (replace(pack, task="mood"), TaskError, "task 'mood' is in this session already"),
        (replace(pack, info=asked, head={}), TaskError, "answers in text, and the graphs of .* answer with heads"),
    ):
        path.write_bytes(wrong.to_bytes())
        with pytest.raises(error, match=message):
            switchable.add_task(path)
    for damaged in (pack.to_bytes()[:-1], b"", b"junk" * 30):
        path.write_bytes(damaged)
        with pytest.raises(BundleError, match="truncated or damaged"):
            switchable.add_task(path)
    with pytest.raises(BundleError, match="no such file"):
        switchable.add_task(tmp_path / "nothing")
    assert set(switchable.tasks) == set(TASKS)


def test_after_closing(tiny, extra_pack):
    session = Session.open(tiny.path, form="switchable")
    with session:
        session.run("mood", ["good"])
    session.close()
    session.close()
    for use in (
        lambda: session.run("mood", ["good"]),
        lambda: session.predict("mood", ["good"]),
        lambda: session.run_mixed([("mood", "good")]),
        lambda: session.tasks,
        lambda: session.add_task(extra_pack[1]),
        lambda: session.remove_task("mood"),
        lambda: session.__enter__(),
    ):
        with pytest.raises(ConfigurationError, match="was closed; open it again"):
            use()


def test_a_session_outlives_its_manifest(own_tiny):
    """What was checked is what runs: later changes to the folder's small files do not reach the session."""
    with Session.open(own_tiny.path, form="switchable") as session:
        (own_tiny.path / MANIFEST).unlink()
        (own_tiny.path / "tasks/mood.safetensors").write_bytes(b"")
        np.testing.assert_allclose(session.run("mood", ["good"]), own_tiny.expected("mood", ["good"]), atol=1e-5)


@pytest.mark.parametrize("way", WAYS, ids="-".join)
def test_eight_threads_with_different_tasks(request, way):
    """Hundreds of calls at once give bit for bit what the same calls give one after the other."""
    random = Random(3)
    calls = [(task, some_rows(random, task, random.randint(1, 5))) for task in random.choices(list(TASKS), k=480)]
    path, form = request.getfixturevalue(way[0]).path, way[1]
    with Session.open(path, form=form, threads=1, batch_size=3, task_memory=3000) as session:
        expected = [session.run(task, rows) for task, rows in calls]
        barrier = threading.Barrier(8)

        def worker(number):
            barrier.wait()
            return [(place, session.run(*calls[place])) for place in range(number, len(calls), 8)]

        with ThreadPoolExecutor(8) as pool:
            found = [item for part in pool.map(worker, range(8)) for item in part]
    assert len(found) == len(calls)
    for place, logits in found:
        np.testing.assert_array_equal(logits, expected[place])


@pytest.mark.parametrize("made", ["tiny", "staged"])
def test_tasks_come_and_go_while_others_run(request, made, tmp_path):
    """One name is added and removed again and again with other masks; no call ever sees half a task."""
    tiny = request.getfixturevalue(made)
    packs = [tiny.model.pack("extra", EXTRA if seed % 2 else TASKS["topic"], seed=seed) for seed in range(6)]
    allowed = [tiny.expected("extra", ["good film"], pack) for pack in packs]
    steady = tiny.expected("mood", ["good film"])
    stop, seen, wrong = threading.Event(), [0, 0], []

    def read(live):
        while not stop.is_set():
            if not np.allclose(live.run("mood", ["good film"]), steady, atol=1e-5):
                wrong.append("mood")
            try:
                logits = live.run("extra", ["good film"])
            except TaskError:
                seen[0] += 1
                continue
            seen[1] += 1
            if not any(item.shape == logits.shape and np.allclose(item, logits, atol=1e-5) for item in allowed):
                wrong.append(logits)

    with Session.open(tiny.path, form="switchable", threads=1) as live, ThreadPoolExecutor(8) as pool:
        readers = [pool.submit(read, live) for _ in range(7)]
        for turn in range(300):
            path = tmp_path / "extra.safetensors"
            path.write_bytes(packs[turn % len(packs)].to_bytes())
            live.add_task(path)
            live.run("extra", ["good film"])
            live.remove_task("extra")
        stop.set()
        for reader in readers:
            reader.result()
    assert not wrong
    assert min(seen) > 0
