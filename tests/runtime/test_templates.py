"""Tasks of many text columns: a device joins them as training does."""

import json
from io import BytesIO

import numpy as np
import pytest

from propetl.bundle.pack import read_pack
from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError, TaskError
from propetl.runtime import Session
from propetl.runtime.cutting import Asked
from propetl.runtime.jsonl import answers
from propetl.runtime.rows import source_of
from propetl.task import TaskSpec
from tests.runtime.tiny_tokenizer import token_ids

NOTE = TaskSpec("task", ("place", "subject", "body"), labels=("x", "y", "z"), template="{place} a {subject} {body}")
ROW = ("north", "rain sun", "wind")
TEXT = "north a rain sun wind"


@pytest.fixture
def pack(tiny, tmp_path):
    pack = tiny.model.pack("note", NOTE, seed=7)
    (tmp_path / "note.safetensors").write_bytes(pack.to_bytes())
    return pack


@pytest.fixture
def session(tiny, pack, tmp_path):
    with Session.open(tiny.path, form="switchable", threads=1) as session:
        session.add_task(tmp_path / "note.safetensors")
        yield session


def test_the_pack_carries_the_template(pack, tmp_path):
    assert read_pack(tmp_path / "note.safetensors").info == pack.info == NOTE


def test_a_session_joins_the_texts(tiny, pack, session):
    wanted = tiny.model.logits(pack, token_ids([TEXT]))
    assert np.allclose(session.run("note", [ROW]), wanted, atol=1e-5)
    mixed = session.run_mixed([("mood", "good film"), ("note", ROW)])
    assert np.allclose(mixed[1], wanted[0], atol=1e-5)
    assert session.predict("note", [ROW]) == session.predict_mixed([("note", ROW)])


def test_lines_of_json_hold_a_list(session):
    lines = "".join(json.dumps({"task": "note", "text": text}) + "\n" for text in (ROW, ROW))
    ((first, second),) = list(answers(BytesIO(lines.encode()), session, None))
    assert first[1].scores == second[1].scores == pytest.approx(session.predict("note", [ROW])[0].scores, abs=1e-5)


@pytest.mark.parametrize(
    ("row", "error", "message"),
    [
        (("a", "b"), TaskError, r"row 0: task 'note' takes 3 texts \(place, subject, body\), found 2"),
        ("a", TaskError, "takes 3 texts"),
        (("a", "b", " "), ConfigurationError, "body is blank"),
    ],
)
def test_a_row_of_other_texts_is_refused(session, row, error, message):
    with pytest.raises(error, match=message):
        session.run("note", [row])


def test_a_prompt_stands_around_what_is_joined():
    text = TextInfo("ask: {}!", max_target_length=4)
    info = TaskSpec("task", ("a", "b", "c"), problem="text", metrics=("rouge1",), text=text, template="{c} {b} {a}")
    assert source_of(info, ("1", "2", "3")) == Asked("ask: {}!", ("3 2 1",))


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"template": None}, "join them"),
        ({"template": 3}, "expected a text"),
        ({"template": "{place} {subject}"}, "leaves out column 'body'"),
        ({"columns": [], "template": None}, "one or two"),
    ],
)
def test_a_description_that_does_not_fit_is_refused(changes, message):
    described = {"problem": "classification", "labels": ["a", "b"], "columns": list(NOTE.columns), "metrics": ["f1"]}
    with pytest.raises((ConfigurationError, ValueError), match=message):
        TaskSpec.from_json("note", described | {"template": NOTE.template} | changes)
