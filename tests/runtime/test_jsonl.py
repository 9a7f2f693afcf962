import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.errors import ConfigurationError, TaskError
from propetl.runtime import Session
from propetl.runtime.jsonl import answer_line, answers, lines_as_they_come
from propetl.runtime.prediction import Prediction


class Dripping:
    """A stream that hands out given pieces, as a slow pipe does."""

    def __init__(self, pieces):
        self.pieces = list(pieces)

    def read1(self, size):
        return self.pieces.pop(0) if self.pieces else b""


@pytest.fixture(scope="module")
def session(tiny):
    with Session.open(tiny.path, form="switchable", threads=1) as session:
        yield session


@given(st.lists(st.binary(min_size=1, max_size=12), max_size=12))
def test_lines_are_those_of_the_whole_however_it_is_cut(pieces):
    groups = list(lines_as_they_come(Dripping(pieces)))
    whole = b"".join(pieces).split(b"\n")
    expected = whole if whole[-1] else whole[:-1]
    assert [line for group in groups for line in group] == expected
    assert all(groups)


def test_a_group_is_what_has_arrived():
    stream = Dripping([b"a\nb\nc", b"c\n", b"d"])
    assert list(lines_as_they_come(stream)) == [[b"a", b"b"], [b"cc"], [b"d"]]


def run(session, lines, task="mood"):
    stream = io.BytesIO("\n".join(json.dumps(line) if isinstance(line, dict) else line for line in lines).encode())
    return [answer for group in answers(stream, session, task) for answer in group]


def test_answers_in_order_with_the_task_of_each_line(session):
    lines = [
        {"text": "good film"},
        {"text": "sun", "task": "topic"},
        "",
        {"text": "a", "text_pair": "b", "task": "entails", "label": "no"},
        {"task": "likeness", "text_pair": "b", "text": "a"},
        {"text": "bad"},
    ]
    found = run(session, lines)
    assert [task for task, _ in found] == ["mood", "topic", "entails", "likeness", "mood"]
    assert found[0][1] == session.predict("mood", ["good film"])[0]
    assert found[3][1] == session.predict("likeness", [("a", "b")])[0]


def test_a_byte_order_mark_and_windows_lines(session):
    stream = io.BytesIO(b'\xef\xbb\xbf{"text": "good"}\r\n\r\n{"text": "bad"}\r\n')
    assert sum(len(group) for group in answers(stream, session, "mood")) == 2


def test_every_line_before_the_bad_one_is_answered_first(session):
    stream = Dripping([b'{"text": "good"}\n{"text": "bad"}\n{"txt": "good"}\n{"text": "sun"}\n'])
    groups = answers(stream, session, "mood")
    assert len(next(groups)) == 2
    with pytest.raises(ConfigurationError, match="line 3: no key \"text\", found 'txt'"):
        next(groups)


def test_lines_are_counted_over_groups(session):
    stream = Dripping([b'{"text": "good"}\n\n', b'{"text": "bad"}\n', b"{"])
    with pytest.raises(ConfigurationError, match="line 4: not JSON"):
        list(answers(stream, session, "mood"))


@pytest.mark.parametrize(
    ("line", "error", "message"),
    [
        (b"{", ConfigurationError, "line 2: not JSON"),
        (b"[" * 100_000, ConfigurationError, "line 2: not JSON"),
        (b"[1]", ConfigurationError, "line 2: expected a JSON object, found list"),
        (b'{"text": "\xff"}', ConfigurationError, "line 2: not UTF-8"),
        (b"{}", ConfigurationError, 'line 2: no key "text", found none'),
        (b'{"text": ""}', ConfigurationError, "line 2: text is blank"),
        (b'{"text": "\\ud800"}', ConfigurationError, "line 2: text is not valid Unicode"),
        (b'{"text": 3}', ConfigurationError, "line 2: expected a text or a pair"),
        (b'{"text": null}', ConfigurationError, "line 2: expected a text or a pair"),
        (b'{"text": "a", "text_pair": "b"}', TaskError, "line 2: task 'mood' takes one text"),
        (b'{"text": "a", "task": "entails"}', TaskError, "line 2: task 'entails' takes a pair"),
        (b'{"text": "a", "task": "sst2"}', TaskError, "line 2: task 'sst2' is not in this session"),
        (b'{"text": "a", "task": 3}', ConfigurationError, "line 2: no task"),
    ],
)
def test_a_bad_line_is_named(session, line, error, message):
    with pytest.raises(error, match=message):
        list(answers(io.BytesIO(b'{"text": "good"}\n' + line), session, "mood"))


def test_no_task_at_all(session):
    with pytest.raises(ConfigurationError, match='line 1: no task; add "task" to the line, or pass --task'):
        run(session, [{"text": "good"}], task=None)


@pytest.mark.parametrize("content", [b"", b"\n \n"])
def test_no_rows(session, content):
    with pytest.raises(ConfigurationError, match="the input has no rows"):
        list(answers(io.BytesIO(content), session, "mood"))


def test_an_answer_is_one_line():
    prediction = Prediction("größer", 0.75, {"größer": 0.75, "kleiner": 0.25})
    line = answer_line(("size", prediction), scores=False)
    assert line == '{"task": "size", "label": "größer", "score": 0.75}\n'.encode()
    assert json.loads(answer_line(("size", prediction), scores=True))["scores"] == prediction.scores
    value = json.loads(answer_line(("likeness", Prediction(None, 3.5, {})), scores=True))
    assert value == {"task": "likeness", "label": None, "score": 3.5, "scores": {}}
