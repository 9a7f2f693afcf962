"""Where reports go: checked before the work, written as a shell would, and no reason to lose what was found."""

import json
import os
import stat
import subprocess
import sys
import threading
from pathlib import Path

import pytest
from click.testing import CliRunner, Result

from propetl.cli.main import main
from tests.propetl.test_output import FULL, node
from tests.runtime.tiny_artifact import write_tiny_artifact


@pytest.fixture(scope="module")
def artifact(tmp_path_factory) -> Path:
    return write_tiny_artifact(tmp_path_factory.mktemp("outputs") / "artifact", forms=("folded",)).path


def validate(artifact: Path, file: Path) -> Result:
    return CliRunner().invoke(main, ["validate", str(artifact), "--json", str(file)])


def test_a_report_goes_through_a_pipe(artifact, tmp_path):
    os.mkfifo(tmp_path / "pipe")
    read: list[bytes] = []
    reader = threading.Thread(target=lambda: read.append((tmp_path / "pipe").read_bytes()))
    reader.start()
    assert validate(artifact, tmp_path / "pipe").exit_code == 0
    reader.join(30)
    assert json.loads(read[0])["passed"] is True


def test_a_report_goes_through_a_link_and_into_a_file_of_its_mode(artifact, tmp_path):
    (tmp_path / "file").touch(0o604)
    (tmp_path / "link").symlink_to("file")
    assert validate(artifact, tmp_path / "link").exit_code == 0
    assert json.loads((tmp_path / "file").read_text())["passed"] is True
    assert (tmp_path / "link").is_symlink() and stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o604


def test_a_link_to_a_file_that_is_not_there_yet(artifact, tmp_path):
    (tmp_path / "link").symlink_to("new")
    (tmp_path / "astray").symlink_to("nowhere/new")
    assert validate(artifact, tmp_path / "link").exit_code == 0 and (tmp_path / "new").is_file()
    refused = validate(artifact, tmp_path / "astray")
    assert refused.exit_code == 2 and "there is no folder" in refused.stderr


def test_a_full_disk_is_one_line_after_what_was_found(artifact, tmp_path):
    full = node(tmp_path / "full", FULL)
    done = validate(artifact, full)
    assert done.exit_code == 2 and "PASS" in done.stdout
    assert done.stderr == (
        f"propetl: error: no space left on the disk for '{full}': free some and run the command again\n"
    )


@pytest.mark.parametrize("name", ["artifact.json", "tokenizer.json", "golden.safetensors"])
def test_no_file_of_what_is_read_is_written_over(artifact, name):
    path = next(artifact.rglob(name))
    before = path.read_bytes()
    done = validate(artifact, path)
    assert done.exit_code == 2 and "choose another path" in done.stderr and path.read_bytes() == before


def test_standard_output_by_its_path_holds_json_alone(artifact):
    done = subprocess.run(
        [sys.executable, "-m", "propetl", "validate", str(artifact), "--json", "/dev/stdout"],
        capture_output=True,
        check=True,
    )
    assert json.loads(done.stdout)["passed"] is True
