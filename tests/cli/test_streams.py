"""Standard streams that are closed, full, or read by somebody who has gone: a quiet end, or one line."""

import os
import stat
import subprocess
import sys

import pytest

PROPETL = [sys.executable, "-m", "propetl"]


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    from tests.runtime.tiny_artifact import write_tiny_artifact

    return write_tiny_artifact(tmp_path_factory.mktemp("streams")).path


def ended(command, redirection, **options):
    """The command under a shell, which alone closes a stream before a program starts."""
    shell = ["sh", "-c", f'"$@" {redirection}', "sh", *PROPETL, *map(str, command)]
    return subprocess.run(shell, capture_output=True, text=True, check=False, timeout=120, **options)


HELP = ["--help"]
HELP_OF_ONE = ["predict", "--help"]
TABLE = ["validate", "{artifact}"]
JSON = [*TABLE, "--json", "-"]
ANSWERS = ["predict", "{artifact}", "--task", "mood", "good film"]
STREAM = [*ANSWERS[:-1], "--file", "-"]


CLOSED = {"help": (HELP, ""), "json": (JSON, "PASS "), "answers": (ANSWERS, "")}


@pytest.mark.parametrize(("command", "said"), CLOSED.values(), ids=CLOSED)
def test_a_closed_output_is_no_error(artifact, command, said):
    """Nothing is said of it; beside JSON, the verdict of a validation goes to standard error."""
    command = [part.format(artifact=artifact) for part in command]
    found = ended(command, ">&-", input='{"text": "good"}\n')
    assert (found.returncode, found.stdout, found.stderr[:5]) == (0, "", said)
    assert found.stderr.count("\n") == bool(said)


@pytest.mark.parametrize("command", [HELP, HELP_OF_ONE, TABLE, JSON, STREAM], ids=" ".join)
def test_a_full_output_is_one_line(artifact, command, full_device):
    command = [part.format(artifact=artifact) for part in command]
    found = ended(command, f"> {full_device}", input='{"text": "good"}\n')
    assert found.returncode == 2
    assert found.stderr.startswith("propetl: error: ") and found.stderr.count("\n") == 1


@pytest.fixture
def full_device(tmp_path):
    """A node of the test's own, as a defect could replace the system's."""
    path = tmp_path / "full"
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(1, 7))
        path.open("wb").close()
    except PermissionError:
        pytest.skip("only root may make a device, and not every system opens it")
    return path


@pytest.mark.parametrize("command", [HELP, TABLE, JSON, STREAM], ids=" ".join)
def test_a_reader_who_has_gone_is_no_error(artifact, command):
    command = [part.format(artifact=artifact) for part in command]
    reading, writing = os.pipe()
    os.close(reading)
    lines = '{"text": "good"}\n'
    found = subprocess.run(
        [*PROPETL, *command], input=lines, stdout=writing, stderr=subprocess.PIPE, text=True, check=False, timeout=120
    )
    os.close(writing)
    assert (found.returncode, found.stderr) == (1, "")


def test_a_full_error_output_keeps_the_exit_code(full_device):
    assert ended(["predict", "/nowhere", "text"], f"2> {full_device}").returncode == 2
    assert ended(["predict", "/nowhere", "text"], "2>&-").returncode == 2


def test_a_closed_input_has_no_rows(artifact):
    found = ended(["predict", artifact, "--task", "mood", "--file", "-"], "<&-")
    assert found.returncode == 2 and "the input has no rows" in found.stderr and found.stderr.count("\n") == 1


def test_a_line_beyond_max_line_is_named_with_its_file(artifact, tmp_path):
    rows = tmp_path / "rows.jsonl"
    rows.write_text('{"text": "good"}\n' + '{"text": "' + "good " * 100 + '"}\n')
    command = ["predict", artifact, "--task", "mood", "--file", rows, "--max-line", 100]
    found = ended(command, "")
    assert found.returncode == 2 and found.stdout.count("\n") == 1
    assert found.stderr == f"propetl: error: {rows}, line 2: longer than 100 bytes; cut it, or raise --max-line\n"
