"""``propetl predict`` for tasks that answer in text."""

import json

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.runtime import Session

ROWS = ["a man", "no good dog", "is"]


def predict(made, *arguments, stdin=None):
    return CliRunner().invoke(main, ["predict", str(made.artifact), "--threads", "1", *arguments], input=stdin)


def values(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_texts_are_answered_by_what_was_generated(text_artifact):
    found = values(predict(text_artifact, "--task", "mood", *ROWS))
    with Session.open(text_artifact.artifact, threads=1) as session:
        expected = session.predict("mood", ROWS)
    assert [value["generated"] for value in found] == [item.generated for item in expected]
    assert [value["label"] for value in found] == [item.label for item in expected]


def test_choices_are_those_of_a_session(text_artifact):
    options = ["--beams", "3", "--max-new-tokens", "9", "--length-penalty", "1.5", "--early-stopping", "never"]
    found = values(predict(text_artifact, "--task", "degree", *options, "--no-repeat-ngram", "2", *ROWS))
    choices = {"beams": 3, "max_new_tokens": 9, "length_penalty": 1.5, "early_stopping": "never", "no_repeat_ngram": 2}
    with Session.open(text_artifact.artifact, threads=1) as session:
        assert [value["generated"] for value in found] == session.generate("degree", ROWS, **choices)
    drawn = [
        [value["generated"] for value in values(predict(text_artifact, "--task", "degree", *ROWS, *more))]
        for more in (["--sample", "--seed", "1"], ["--sample", "--seed", "1"], ["--sample", "--seed", "2"])
    ]
    assert drawn[0] == drawn[1] != drawn[2]


def test_a_stream_of_lines_mixes_tasks(text_artifact):
    lines = '{"text": "a man"}\n{"text": "no", "text_pair": "dog", "task": "echo"}\n{"text": "is", "task": "degree"}\n'
    found = values(predict(text_artifact, "--task", "mood", "--form", "bank", "--file", "-", stdin=lines))
    assert [value["task"] for value in found] == ["mood", "echo", "degree"]
    with Session.open(text_artifact.artifact, threads=1) as session:
        rows = [("mood", "a man"), ("echo", ("no", "dog")), ("degree", "is")]
        expected = [session.generate(task, [text])[0] for task, text in rows]
    assert [value["generated"] for value in found] == expected


def test_text_is_printed_as_it_comes(text_artifact):
    result = predict(text_artifact, "--task", "degree", "--stream", *ROWS)
    assert result.exit_code == 0, result.stderr
    with Session.open(text_artifact.artifact, threads=1) as session:
        assert result.stdout.splitlines() == [session.generate("degree", [row])[0] for row in ROWS]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mood", "a", "--beams", "0"], "beams must be a whole number"),
        (["--task", "mood", "a", "--sample", "--beams", "2"], "sampling draws one sequence"),
        (["--task", "mood", "a", "--stream"], "streaming goes with one beam"),
        (["--task", "mood", "--stream", "--file", "-"], "leave it out with --file"),
    ],
    ids=["beams", "sample", "stream", "file"],
)
def test_choices_that_do_not_go_together_are_one_line(text_artifact, arguments, message):
    result = predict(text_artifact, *arguments, stdin="")
    assert result.exit_code == 2
    assert message in result.stderr and len(result.stderr.strip().splitlines()) == 1
