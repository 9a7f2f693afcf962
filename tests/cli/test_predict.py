import json
import os
import pty
import subprocess
import sys

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.runtime import Session
from tests.device_env import ROOT
from tests.runtime.tiny_artifact import TASKS, write_tiny_artifact

PROPETL = [sys.executable, "-m", "propetl"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_tiny_artifact(tmp_path_factory.mktemp("predict") / "artifact")


def predict(tiny, *arguments, stdin=None):
    return CliRunner().invoke(main, ["predict", str(tiny.path), *arguments], input=stdin)


def values(result):
    assert result.exit_code == 0, result.stderr
    return [json.loads(line) for line in result.stdout.splitlines()]


def test_texts(tiny):
    found = values(predict(tiny, "--task", "mood", "good film", "bad", "--threads", "1"))
    with Session.open(tiny.path, threads=1) as session:
        expected = session.predict("mood", ["good film", "bad"])
    assert [(value["label"], value["score"]) for value in found] == [(item.label, item.score) for item in expected]
    assert all(set(value) == {"task", "label", "score"} for value in found)


def test_truncated_rows_are_said_once_at_the_end(tiny):
    rows = [{"text": "good"}, {"text": "good film " * 40}, {"text": "bad " * 90}]
    lines = "".join(json.dumps({"task": "mood"} | row) + "\n" for row in rows)
    with Session.open(tiny.path, threads=1) as session:
        length = session.max_length
        assert session.lengths("mood", ["good", "bad " * 90]) == [3, 92]
        assert session.truncated.rows == 0
    said = f"propetl: 2 of 3 rows (66.7%) are longer than max_length {length} and were truncated; "
    said += "the longest has 92 tokens"
    for arguments, given in (["--file", "-"], lines), (["--task", "mood", *(row["text"] for row in rows)], None):
        result = predict(tiny, *arguments, stdin=given)
        assert len(values(result)) == 3
        assert result.stderr.splitlines() == [said]
    assert predict(tiny, "--task", "mood", "good").stderr == ""


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
def test_forms_agree(tiny, form):
    (value,) = values(predict(tiny, "--task", "topic", "sun wind", "--scores", "--form", form))
    assert list(value["scores"]) == list(TASKS["topic"].labels)
    assert value["score"] == max(value["scores"].values())
    expected = tiny.expected("topic", ["sun wind"])[0]
    assert value["label"] == TASKS["topic"].labels[int(expected.argmax())]


def test_pairs_and_regression(tiny):
    found = values(predict(tiny, "--task", "likeness", "one", "two", "--pair", "three", "--pair", "four"))
    expected = tiny.expected("likeness", [("one", "three"), ("two", "four")])[:, 0]
    assert [value["score"] for value in found] == pytest.approx(expected.tolist(), abs=1e-5)
    assert [value["label"] for value in found] == [None, None]


def test_a_file_and_standard_input(tiny, tmp_path):
    lines = '{"text": "good"}\n{"text": "sun", "task": "topic"}\n'
    (tmp_path / "rows.jsonl").write_text(lines)
    from_file = predict(tiny, "--task", "mood", "--file", str(tmp_path / "rows.jsonl"))
    from_stdin = predict(tiny, "--task", "mood", "--file", "-", stdin=lines)
    assert [value["task"] for value in values(from_file)] == ["mood", "topic"]
    assert from_file.stdout == from_stdin.stdout


def test_the_only_task_need_not_be_named(tmp_path):
    one = write_tiny_artifact(tmp_path / "one", tasks={"topic": TASKS["topic"]})
    assert values(predict(one, "sun"))[0]["task"] == "topic"
    assert values(predict(one, "--file", "-", stdin='{"text": "sun"}'))[0]["task"] == "topic"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["--task", "mood"], "give texts, or --file with lines of JSON"),
        (["--task", "mood", "good", "--file", "-"], "give texts, or --file with lines of JSON"),
        (["--task", "mood", "--file", "-", "--pair", "a"], "give texts, or --file with lines of JSON"),
        (["good"], "pass --task; the artifact has mood, topic, entails, likeness"),
        (["--task", "sst2", "good"], "task 'sst2' is not in this session; it has entails"),
        (["--task", "sst2", "--file", "-"], "propetl: error: task 'sst2' is not in this session"),
        (["--task", "mood", "good", "--form", "melted"], "form 'melted' is not in"),
        (["--task", "mood", "good", "--provider", "abacus"], "provider 'abacus' is not known"),
        (["--task", "entails", "a", "--pair", "b", "--pair", "c"], "takes a pair of texts (premise, hypothesis)"),
        (["--task", "mood", "good", "--pair", "b"], "row 0: task 'mood' takes one text (text), found 2"),
        (
            ["--task", "entails", "a", "b", "--pair", "b"],
            "--pair goes with each text; found 2 texts, 1 --pair",
        ),
        (["--task", "mood", "good", " "], "row 1: text is blank"),
        (["--task", "mood", "--file", "no/such/file"], "does not exist"),
        (["--task", "mood", "good", "--threads", "0"], "0 is not in the range"),
    ],
)
def test_wrong_use_is_one_line_and_exit_code_2(tiny, arguments, message):
    result = predict(tiny, *arguments, stdin="")
    assert result.exit_code == 2
    assert result.stdout == ""
    assert message in result.stderr.splitlines()[-1]


def test_no_artifact(tmp_path):
    result = CliRunner().invoke(main, ["predict", str(tmp_path / "nothing"), "good"])
    assert result.exit_code == 2
    assert "no artifact is there" in result.stderr


def test_a_bad_line_is_named_after_the_good_ones_were_answered(tiny):
    result = predict(tiny, "--task", "mood", "--file", "-", stdin='{"text": "good"}\n{"txt": "good"}\n')
    assert result.exit_code == 2
    assert len(result.stdout.splitlines()) == 1
    assert result.stderr == "propetl: error: line 2: no key \"text\", found 'txt'\n"


def test_a_line_is_answered_before_the_input_ends(tiny):
    """The pipe stays open: each answer must come before the next line is written."""
    buffered = {name: value for name, value in os.environ.items() if name != "PYTHONUNBUFFERED"}
    command = [*PROPETL, "predict", str(tiny.path), "--task", "mood", "--file", "-"]
    with subprocess.Popen(command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, env=buffered) as process:
        assert process.stdin is not None and process.stdout is not None
        for text in ("good", "bad", "good film"):
            process.stdin.write(json.dumps({"text": text}).encode() + b"\n")
            process.stdin.flush()
            assert json.loads(process.stdout.readline())["label"] in TASKS["mood"].labels
        process.stdin.close()
        assert process.stdout.read() == b""
        assert process.wait(30) == 0


def test_a_bad_line_ends_it_while_the_pipe_is_open(tiny):
    command = [*PROPETL, "predict", str(tiny.path), "--task", "mood", "--file", "-"]
    pipe = subprocess.PIPE
    with subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, stderr=pipe) as process:
        assert process.stdin is not None and process.stderr is not None
        process.stdin.write(b"{}\n")
        process.stdin.flush()
        assert process.wait(30) == 2
        assert process.stderr.read() == b'propetl: error: line 1: no key "text", found none\n'


def test_a_terminal_gets_a_table(tiny):
    """Run on a pseudo-terminal, so that the command itself decides."""
    leader, follower = pty.openpty()
    command = [*PROPETL, "predict", str(tiny.path), "--task", "mood", "good [film]", "bad", "--scores"]
    environment = os.environ | {"TERM": "xterm", "COLUMNS": "100"}
    with subprocess.Popen(command, cwd=ROOT, stdout=follower, env=environment) as process:
        os.close(follower)
        shown = b""
        try:
            while chunk := os.read(leader, 1 << 16):
                shown += chunk
        except OSError:  # Linux reports the end of a pseudo-terminal so
            pass
        assert process.wait(30) == 0
    os.close(leader)
    text = shown.decode()
    assert "mood (switchable)" in text
    assert all(word in text for word in ("label", "score", "good [film]", *TASKS["mood"].labels))


def test_help_shows_examples():
    result = CliRunner().invoke(main, ["predict", "--help"])
    assert result.exit_code == 0
    assert 'propetl predict out --task sst2 "a moving film"' in result.output
