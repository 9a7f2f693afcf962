"""A full disk is one line and exit code 2, whatever was being written and by which library; nothing is lost or left."""

import errno
import os
import shutil
import subprocess
from pathlib import Path

import pytest
from click.testing import CliRunner, Result
from safetensors import SafetensorError

from propetl.cli.failures import WRONG_INPUT, failure_of
from propetl.cli.main import main
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.selftest import self_test
from propetl.staging import staged_folder
from tests.export.random_artifact import Case, random_bundle
from tests.runtime.tiny_artifact import write_tiny_artifact


@pytest.fixture
def disk(tmp_path):
    """Mounts a file system of so many KiB."""
    folder, mounted = tmp_path / "disk", []
    folder.mkdir()

    def mount(size: int) -> Path:
        line = ["mount", "-t", "tmpfs", "-o", f"size={size}k", "tmpfs", str(folder)]
        done = subprocess.run(line, capture_output=True, text=True) if shutil.which("mount") else None
        if done is None or done.returncode:
            pytest.skip(f"file systems can be mounted by root only: {done.stderr.strip() if done else 'no mount'}")
        mounted.append(folder)
        return folder

    yield mount
    for each in mounted:
        subprocess.run(["umount", "--lazy", str(each)], check=True)


@pytest.fixture(scope="module")
def bundle(tmp_path_factory):
    folder = tmp_path_factory.mktemp("full")
    random_bundle(folder, Case("bert", PrototypeConfig(), layers=1))
    return folder / "bundle"


def propetl(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def is_one_line(done: Result) -> bool:
    last = done.stderr.splitlines()[-1]
    told = last.startswith("propetl: error: ") and "o space left on" in last  # No space, no space
    return done.exit_code == WRONG_INPUT and told and isinstance(done.exception, SystemExit)


@pytest.mark.parametrize("size", [12, 60, 120])
def test_export(disk, bundle, size):
    out = disk(size) / "artifact"
    done = propetl("export", bundle, "-o", out, "--form", "all")
    assert is_one_line(done), done.stderr
    assert f"'{out}'" in done.stderr and list(out.parent.iterdir()) == []


@pytest.mark.parametrize("free", [0, 8, 16])
def test_tune(disk, tmp_path, free):
    """ONNX Runtime writes what is tuned, and has errors of its own."""
    tiny = write_tiny_artifact(tmp_path / "tiny", forms=("folded",))
    taken = sum(-(-path.stat().st_size // 4096) * 4 for path in tiny.path.rglob("*") if path.is_file())
    folder = disk(taken + free)
    shutil.copytree(tiny.path, folder / "artifact")
    there = sorted(folder.rglob("*"))
    done = propetl("tune", folder / "artifact")
    assert is_one_line(done), (done.stdout, done.stderr)
    assert sorted(folder.rglob("*")) == there
    assert self_test(folder / "artifact").passed


def test_data_and_reports(disk, bundle):
    folder = disk(16)
    assert is_one_line(propetl("data", folder / "data", "--train-rows", 4096))
    shutil.rmtree(folder / "data")
    done = propetl("inspect", bundle, "--json", folder / "report.json", "--plot", folder / "plot.png")
    assert is_one_line(done)
    assert not [path for path in folder.iterdir() if path.suffix == ".partial"]


def test_what_a_killed_run_left_makes_room_for_the_next(disk):
    folder = disk(64)
    leftover = folder / ".data.0123abcd.partial"
    leftover.mkdir()
    (leftover / "half").write_bytes(bytes(40 << 10))
    with pytest.raises(OSError, match="No space"):
        (folder / "more").write_bytes(bytes(40 << 10))
    (folder / "more").unlink()
    with staged_folder(folder / "data") as staging:
        (staging / "whole").write_bytes(bytes(40 << 10))
    assert [path.name for path in folder.iterdir()] == ["data"]


NO_SPACE = os.strerror(errno.ENOSPC)


@pytest.mark.parametrize(
    "error",
    [
        SafetensorError(f"Error while serializing: I/O error: {NO_SPACE} (os error 28)"),
        Exception(f"{NO_SPACE} (os error 28)"),
        RuntimeError(f"write failed: {NO_SPACE}"),
        RuntimeError(os.strerror(errno.EDQUOT)),
    ],
    ids=["safetensors", "tokenizers", "a C++ library", "a quota"],
)
def test_errors_of_libraries(error):
    failure = failure_of(error, "export")
    assert failure is not None and failure.exit_code == WRONG_INPUT
    assert failure.message.startswith("no space left on the disk")


def test_errors_that_follow_from_one(tmp_path):
    try:
        try:
            raise OSError(errno.ENOSPC, NO_SPACE, "out/x")
        except OSError:
            raise ValueError("I/O operation on closed file")  # noqa: B904 - as libraries do
    except ValueError as error:
        failure = failure_of(error, "export")
    assert failure is not None and failure.message.startswith("no space left on the disk for 'out/x'")


def test_other_errors_keep_their_trace():
    assert failure_of(ValueError("no space in this name"), "export") is None


@pytest.mark.parametrize("error", [OSError(27, "File too large", "out/x"), Exception("File too large (os error 27)")])
def test_a_limit_on_the_size_of_files(error):
    failure = failure_of(error, "train")
    assert failure is not None and failure.exit_code == WRONG_INPUT
    assert failure.message.startswith("this process may write no file of that size (ulimit -f)")
    assert "raise the limit" in failure.message
