"""Numbers that are not finite: refused where they come in, an error where they come out, never a label."""

import io
import json
from dataclasses import replace

import numpy as np
import pytest

from propetl.bundle.pack import read_pack
from propetl.errors import AnswerError, BundleError
from propetl.files import json_bytes, json_line
from propetl.runtime import Session
from propetl.runtime.engines.ort import OrtEngine
from propetl.runtime.finite import check_answers, check_scores
from propetl.runtime.golden import Golden, golden_bytes
from propetl.runtime.jsonl import answers
from propetl.runtime.selftest import self_test
from propetl.task import TaskSpec
from tests.runtime.test_session import WAYS
from tests.runtime.tiny_artifact import ROWS, TASKS
from tests.runtime.tiny_tokenizer import token_ids

NOT_FINITE = [np.nan, np.inf, -np.inf]
TEXTS = ["sun", "good film", "a b c d e f g h", "rain"]


@pytest.fixture(params=WAYS, ids="-".join)
def session(request):
    made, form = request.param
    with Session.open(request.getfixturevalue(made).path, form=form, threads=1, batch_size=2) as session:
        yield session


@pytest.fixture
def spoiled(monkeypatch):
    """Engines whose logits of rows with the token of "film" are not finite, as where an activation overflows."""
    run, film = OrtEngine.run, token_ids(["film"])["input_ids"][0, 1]

    def spoil(value):
        def run_and_spoil(engine, feeds, prepared):
            logits = run(engine, feeds, prepared).copy()
            logits[(feeds["input_ids"] == film).any(axis=1), ..., 0] = value
            return logits

        monkeypatch.setattr(OrtEngine, "run", run_and_spoil)

    return spoil


@pytest.mark.parametrize("value", NOT_FINITE)
def test_an_answer_names_row_and_task(session, spoiled, value):
    spoiled(value)
    for ask in (session.run, session.predict):
        for rows in (TEXTS, token_ids(TEXTS)):
            with pytest.raises(AnswerError, match=r"^row 1: the logits of task 'mood' are no finite numbers") as caught:
                ask("mood", rows)
            assert (caught.value.row, caught.value.task, caught.value.exit_code) == (1, "mood", 2)
    assert len(session.run("mood", [text for text in TEXTS if "film" not in text])) == 3


def test_of_rows_of_many_tasks_too(session, spoiled):
    spoiled(np.nan)
    rows = [("topic", "sun"), ("mood", "rain"), ("likeness", ("one", "good film")), ("mood", "sun")]
    for ask in (session.run_mixed, session.predict_mixed):
        with pytest.raises(AnswerError, match=r"^row 2: the logits of task 'likeness' are no finite numbers"):
            ask(rows)


def test_lines_before_it_are_answered_and_the_line_is_named(session, spoiled):
    spoiled(np.inf)
    lines = b"\n".join(json.dumps({"text": text}).encode() for text in ("sun", "a", "a b c d e f", "good film", "rain"))
    given = []
    groups = answers(io.BytesIO(lines), session, "mood")
    with pytest.raises(AnswerError, match=r"^line 4: the logits of task 'mood' are no finite numbers"):
        given.extend(answer for group in groups for answer in group)
    assert [answer.label for _, answer in given] == [
        answer.label for answer in session.predict("mood", ["sun", "a", "a b c d e f"])
    ]


def test_the_first_of_several_rows_is_named_by_its_line(session, spoiled):
    """Longer rows run later: the first that is found need not be the first that was given."""
    spoiled(np.nan)
    lines = b"\n".join(json.dumps({"text": text}).encode() for text in ("sun", "film a b c d e f g", "rain", "film"))
    with pytest.raises(AnswerError, match=r"^line 2: "):
        list(answers(io.BytesIO(lines), session, "mood"))


def test_padding_may_be_anything():
    logits = np.zeros((2, 3, 2), dtype=np.float32)
    logits[1, 2] = np.nan
    mask = np.array([[1, 1, 1], [1, 1, 0]])
    check_answers(logits, ["t", "t"], [5, 4], mask)
    with pytest.raises(AnswerError, match=r"^row 4: "):
        check_answers(logits, ["t", "t"], [5, 4], np.ones_like(mask))


def test_scores_of_ended_sequences_may_be_anything():
    scores = np.zeros((3, 4), dtype=np.float32)
    scores[1:, 0] = np.inf
    rows = np.array([7, 3, 9])
    check_scores(scores, rows, np.array([True, False, False]))
    with pytest.raises(AnswerError) as caught:
        check_scores(scores, rows, np.array([True, True, True]))
    assert caught.value.row == 3


@pytest.mark.parametrize("value", NOT_FINITE)
@pytest.mark.parametrize("tensor", ["weight", "bias"])
def test_a_pack_is_refused_when_it_is_read(own_staged, value, tensor):
    pack = own_staged.packs["mood"]
    head = {name: array.copy() for name, array in pack.head.items()}
    head[tensor].reshape(-1)[-1] = value
    own_staged.rewrite("tasks/mood.safetensors", replace(pack, head=head).to_bytes())
    for form in ("switchable", "bank"):  # a folded graph holds its head, and takes none
        with (
            Session.open(own_staged.path, form=form, threads=1) as session,
            pytest.raises(BundleError, match=rf"mood.*{tensor} has numbers that are not finite"),
        ):
            session.predict("mood", ["sun"])
    assert any("not finite" in breach for breach in self_test(own_staged.path, threads=1).breaches)


@pytest.mark.parametrize("made", ["tiny", "staged"])
def test_a_pack_is_refused_when_it_is_added(request, tmp_path, made):
    tiny = request.getfixturevalue(made)
    pack = tiny.model.pack("extra", TaskSpec("task", ("text",), problem="regression", metrics=("pearson",)), seed=1)
    pack.head["bias"][:] = np.nan
    (tmp_path / "extra.safetensors").write_bytes(pack.to_bytes())
    read_pack(tmp_path / "extra.safetensors")  # the file is whole: only its numbers are none
    with Session.open(tiny.path, form="switchable", threads=1) as session:
        with pytest.raises(BundleError, match=r"head\.bias has numbers that are not finite"):
            session.add_task(tmp_path / "extra.safetensors")
        assert "extra" not in session.tasks


def test_golden_rows_are_refused(own_tiny):
    goldens = {task: Golden(token_ids(ROWS[task]), own_tiny.expected(task, ROWS[task])) for task in TASKS}
    goldens["mood"].logits[0, 1] = np.nan
    own_tiny.rewrite("golden.safetensors", golden_bytes(goldens))
    assert any("golden logits of task mood" in breach for breach in self_test(own_tiny.path, threads=1).breaches)


def refuse(name):
    raise ValueError(f"{name} is no JSON")


def test_what_is_written_is_json():
    value = {"a": [float("nan"), 1.5, {"b": float("-inf")}], "c": (float("inf"), None), "path": "caf\udce9"}
    for content in (json_bytes(value), json_line(value)):
        found = json.loads(content, parse_constant=refuse)
        assert found == {"a": [None, 1.5, {"b": None}], "c": [None, None], "path": "caf\udce9"}
    assert json_line({"b": 0.5, "ü": 1}) == '{"b": 0.5, "ü": 1}\n'.encode()
