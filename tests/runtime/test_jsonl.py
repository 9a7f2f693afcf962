import io
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.errors import BackendError, ConfigurationError, TaskError
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


def lines_of_a_stream_that_never_ends(most):
    """What is handed out, and how many bytes were taken, of a stream with one short line and one without an end."""

    class Endless:
        taken = 0

        def read1(self, size):
            self.taken += size
            return b"a\n" + b"x" * (size - 2) if self.taken == size else b"x" * size

    stream = Endless()
    return [line for group in lines_as_they_come(stream, most) for line in group], stream.taken


@pytest.mark.parametrize("most", [1, 1000, 1 << 20])
def test_of_a_line_without_an_end_no_more_is_read_than_the_limit(most):
    lines, taken = lines_of_a_stream_that_never_ends(most)
    assert lines[0] == b"a" and most < len(lines[1]) == taken - 2 <= most + (1 << 16)


def test_a_long_line_takes_time_in_its_length(monkeypatch):
    """Each byte is copied a fixed number of times, however small the pieces are that it comes in."""
    joined = []

    class Counted(bytes):
        def __add__(self, other):
            joined.append(len(self) + len(other))
            return Counted(bytes(self) + other)

    (line,), *others = lines_as_they_come(Dripping([Counted(b"x" * 10)] * 2000 + [b"\n"]))
    assert len(line) == 20_000 and not others and sum(joined) <= 40_000


def test_a_line_beyond_the_limit_is_named_after_the_rows_before_it(session):
    for end in (b"", b"\n", b'\n{"text": "sun"}\n'):
        stream = io.BytesIO(b'{"text": "good"}\n{"text": "' + b"a " * 100 + b'"}' + end)
        groups = answers(stream, session, "mood", "rows.jsonl", 100)
        assert len(next(groups)) == 1
        with pytest.raises(ConfigurationError, match=r"^rows\.jsonl, line 2: longer than 100 bytes; .* --max-line"):
            next(groups)


def test_a_row_that_fails_while_it_runs_is_named_after_those_before_it(session, monkeypatch):
    predict = session.predict_mixed

    def failing(rows, **choices):
        if any(text == "bad" for _, text in rows):
            raise BackendError("refused")
        return predict(rows, **choices)

    monkeypatch.setattr(session, "predict_mixed", failing)
    stream = io.BytesIO(b'{"text": "good"}\n\n{"text": "bad"}\n{"text": "sun"}\n')
    groups = answers(stream, session, "mood")
    assert next(groups)[0][0] == "mood"
    with pytest.raises(BackendError, match=r"^line 3: refused"):
        next(groups)


def test_a_long_whole_number_is_no_matter_where_it_is_not_used(session):
    assert len(run(session, ['{"text": "good", "id": ' + "7" * 400 + "}"])) == 1


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
        (b'{"text": "\xff"}', ConfigurationError, "line 2: not JSON .not UTF-8"),
        (b"{}", ConfigurationError, 'line 2: no key "text", found none'),
        (b'{"text": ""}', ConfigurationError, "line 2: text is blank"),
        (b'{"text": "\\ud800"}', ConfigurationError, "line 2: not JSON .not valid Unicode .lone surrogate"),
        (b'{"text": "a", "id": ' + b"1" * 5000 + b"}", ConfigurationError, "line 2: not JSON .number 1.* of 5000 char"),
        (b'{"text": "a", "id": 1e400}', ConfigurationError, "line 2: not JSON .number 1e400 is out of range"),
        (b'{"text": "a", "id": NaN}', ConfigurationError, "line 2: not JSON .NaN is no number"),
        (b'{"text": "a", "text": "b"}', ConfigurationError, "line 2: not JSON .key 'text' stands there twice"),
        (b'{"text": "a\0b"}', ConfigurationError, "line 2: not JSON .Invalid control character"),
        (b'\0{"text": "a"}', ConfigurationError, "line 2: not JSON"),
        (b'{"text": ' * 70 + b"1" + b"}" * 70, ConfigurationError, "line 2: not JSON .more than 64"),
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
