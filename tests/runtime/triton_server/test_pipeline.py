"""From text to answer through the files of a repository, as Triton would: what a session says is the reference."""

import numpy as np
import onnxruntime
import pytest

from propetl.export.triton_repository.writer import add_repository
from propetl.runtime.artifact import read_manifest
from propetl.runtime.session import Session
from tests.runtime.tiny_artifact import ROWS, write_tiny_artifact
from tests.runtime.triton_server.triton_double import install, model_of, request, strings


@pytest.fixture(scope="module")
def served(tmp_path_factory):
    tiny = write_tiny_artifact(tmp_path_factory.mktemp("served") / "artifact")
    add_repository(tiny.path, read_manifest(tiny.path).manifest, max_batch=8, standalone=False)
    return tiny


@pytest.fixture(autouse=True)
def triton(monkeypatch):
    install(monkeypatch)


def parts_of(rows):
    return [[row] if isinstance(row, str) else list(row) for row in rows]


class Pipeline:
    """The steps of an ensemble, one after the other."""

    def __init__(self, repository, ending=""):
        self.tokenise = model_of(repository, f"propetl-tokenise{ending}")
        self.answer = model_of(repository, f"propetl-answer{ending}")
        path = repository / f"propetl-model{ending}" / "1" / "model.onnx"
        self.graph = onnxruntime.InferenceSession(path, providers=["CPUExecutionProvider"])

    def __call__(self, **asked):
        (tokens,) = self.tokenise.execute([request(**asked)])
        assert tokens.error is None
        feeds = {name: array[:, 0] if name == "task_id" else array for name, array in tokens.tensors.items()}
        (logits,) = self.graph.run(["logits"], feeds)
        passed = {name: array for name, array in asked.items() if name == "task"}
        (answer,) = self.answer.execute([request(logits=logits, **passed)])
        assert answer.error is None
        return logits, [row[0].decode() for row in answer.tensors["label"]], answer.tensors["score"][:, 0]


def test_one_model_answers_every_task(served):
    pipeline = Pipeline(served.path / "triton")
    with Session.open(served.path, form="bank") as session:
        for task, rows in ROWS.items():
            logits, labels, scores = pipeline(task=strings([[task]] * len(rows)), text=strings(parts_of(rows)))
            expected = session.predict(task, rows)
            np.testing.assert_allclose(logits[:, : session.task(task).outputs], session.run(task, rows), atol=1e-5)
            assert labels == [prediction.label or "" for prediction in expected]
            np.testing.assert_allclose(scores, [prediction.score for prediction in expected], atol=1e-5)


def test_one_batch_holds_rows_of_several_tasks(served):
    rows = [("mood", "good film"), ("topic", "sun wind rain"), ("mood", "bad")]
    pipeline = Pipeline(served.path / "triton")
    _, labels, scores = pipeline(task=strings([[task] for task, _ in rows]), text=strings([[text] for _, text in rows]))
    with Session.open(served.path, form="bank") as session:
        expected = session.predict_mixed(rows)
    assert labels == [prediction.label for prediction in expected]
    np.testing.assert_allclose(scores, [prediction.score for prediction in expected], atol=1e-5)


def test_a_folded_task_is_not_named(served):
    for task, rows in ROWS.items():
        _, labels, scores = Pipeline(served.path / "triton", f"-{task}")(text=strings(parts_of(rows)))
        with Session.open(served.path, form="folded") as session:
            expected = session.predict(task, rows)
        assert labels == [prediction.label or "" for prediction in expected]
        np.testing.assert_allclose(scores, [prediction.score for prediction in expected], atol=1e-5)


def test_rows_are_filled_up_so_that_requests_have_few_shapes(served):
    tokenise = model_of(served.path / "triton", "propetl-tokenise-mood")
    lengths = set()
    for count in range(1, 60):
        (found,) = tokenise.execute([request(text=strings([["a " * count]]))])
        ids, mask = found.tensors["input_ids"], found.tensors["attention_mask"]
        assert ids.shape == mask.shape and not ids[mask == 0].any()
        assert mask.sum() == min(count + 2, 32)
        lengths.add(ids.shape[1])
    assert lengths == {16, 32}


@pytest.mark.parametrize(
    ("task", "text", "message"),
    [
        ("nowhere", ["good"], "task 'nowhere' is not served here; there are entails, likeness, mood, topic"),
        ("mood", ["good", "film"], "row 0: task 'mood' takes one text (text), found 2"),
        ("entails", ["good"], "row 0: task 'entails' takes a pair of texts"),
        ("mood", [" "], "row 0: text is blank"),
        ("mood", [b"caf\xe9"], "row 0: text is not UTF-8 (byte 0xe9 at 3); send text as UTF-8"),
        (b"m\xff", ["good"], "row 0: task is not UTF-8 (byte 0xff at 1)"),
    ],
)
def test_a_wrong_request_is_answered_by_a_line_and_its_neighbour_is_served(served, task, text, message):
    tokenise = model_of(served.path / "triton", "propetl-tokenise")
    good = request(task=strings([["mood"]]), text=strings([["good"]]))
    wrong, right = tokenise.execute([request(task=strings([[task]]), text=strings([text])), good])
    assert message in wrong.error and wrong.tensors == {}
    assert right.error is None and right.tensors["task_id"].tolist() == [[0]]


def test_a_task_for_each_row(served):
    tokenise = model_of(served.path / "triton", "propetl-tokenise")
    (found,) = tokenise.execute([request(task=strings([["mood"]]), text=strings([["good"], ["bad"]]))])
    assert "2 rows, but 1 tasks; give one task for each row" in found.error


def test_settings_that_are_damaged(served, tmp_path):
    from propetl.errors import ArtifactError
    from propetl.runtime.triton_server.settings import Settings

    (tmp_path / "propetl.json").write_text('{"max_length": 3}')
    with pytest.raises(ArtifactError, match="not valid"):
        Settings.read(tmp_path)
    with pytest.raises(ArtifactError, match="no served model is there"):
        Settings.read(tmp_path / "nowhere")


def test_logits_that_are_too_narrow_for_the_task_are_no_label(served):
    answer = model_of(served.path / "triton", "propetl-answer")
    (wrong,) = answer.execute([request(logits=np.zeros((1, 2), np.float32), task=strings([["topic"]]))])
    assert "logits are 2 wide, a task has 3" in wrong.error


@pytest.mark.parametrize("value", [np.nan, np.inf, -np.inf])
def test_logits_that_are_not_finite_are_no_label(served, value):
    """Those of the task's own outputs: what a bank has beyond them is of wider tasks."""
    answer = model_of(served.path / "triton", "propetl-answer")
    logits = np.zeros((2, 3), dtype=np.float32)
    logits[0, 2] = value  # "mood" has two
    given = {"task": strings([["mood"], ["topic"]])}
    (good,) = answer.execute([request(logits=logits, **given)])
    assert good.error is None and len(good.tensors["label"]) == 2
    logits[1, 0] = value
    (wrong,) = answer.execute([request(logits=logits, **given)])
    assert wrong.tensors == {} and wrong.error.startswith("row 1: the logits of task 'topic' are no finite numbers")
