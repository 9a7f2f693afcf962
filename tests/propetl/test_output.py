"""Files that a user names are written as a shell's ``>`` would. Nodes are the tests' own."""

import errno
import os
import stat
import subprocess
import sys
import threading

import pytest

from propetl.output import write_output
from tests.device_env import ROOT

NULL, FULL = (1, 3), (1, 7)  # major and minor number, as of /dev/null and /dev/full


def node(path, numbers):
    """A device of the test's own."""
    try:
        os.mknod(path, stat.S_IFCHR | 0o666, os.makedev(*numbers))
        with path.open("wb"):
            return path
    except PermissionError as error:
        pytest.skip(f"devices can be made by root only, on a file system that allows them: {error}")


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def test_a_new_file_and_one_that_is_there(tmp_path):
    write_output(tmp_path / "file", b"a longer old one")
    (tmp_path / "file").chmod(0o604)
    write_output(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and names_in(tmp_path) == ["file"]
    assert stat.S_IMODE((tmp_path / "file").stat().st_mode) == 0o604


@pytest.mark.skipif(os.geteuid() != 0, reason="only root gives files away")
def test_the_owner_stays(tmp_path):
    (tmp_path / "file").touch()
    os.chown(tmp_path / "file", 1234, 5678)
    write_output(tmp_path / "file", b"new")
    there = (tmp_path / "file").stat()
    assert (there.st_uid, there.st_gid) == (1234, 5678)


def test_links_are_followed(tmp_path):
    (tmp_path / "folder").mkdir()
    (tmp_path / "one").symlink_to("two")
    (tmp_path / "two").symlink_to(tmp_path / "folder" / "file")
    (tmp_path / "folder" / "same").touch()
    for content in (b"a longer first one", b"second"):
        write_output(tmp_path / "one", content)
        assert (tmp_path / "folder" / "file").read_bytes() == content
    assert (tmp_path / "one").is_symlink() and (tmp_path / "two").is_symlink()
    assert names_in(tmp_path / "folder") == ["file", "same"]


def test_a_file_of_several_names_is_written_under_all(tmp_path):
    (tmp_path / "one").write_bytes(b"a longer old one")
    (tmp_path / "two").hardlink_to(tmp_path / "one")
    write_output(tmp_path / "one", b"new")
    assert (tmp_path / "two").read_bytes() == b"new" and (tmp_path / "one").samefile(tmp_path / "two")


def test_a_pipe_is_written_to(tmp_path):
    pipe, read = tmp_path / "pipe", []
    os.mkfifo(pipe)
    (tmp_path / "link").symlink_to(pipe)
    for name, content in (("pipe", b"x" * 200_000), ("link", b"y")):
        reader = threading.Thread(target=lambda: read.append(pipe.read_bytes()))
        reader.start()
        write_output(tmp_path / name, content)
        reader.join(30)
        assert read.pop() == content and stat.S_ISFIFO(pipe.stat().st_mode)
    assert names_in(tmp_path) == ["link", "pipe"]


def test_a_device_is_written_to(tmp_path):
    null = node(tmp_path / "null", NULL)
    (tmp_path / "link").symlink_to(null)
    for name in ("null", "link"):
        write_output(tmp_path / name, b"gone")
        assert stat.S_ISCHR((tmp_path / name).stat().st_mode)
    assert (tmp_path / "link").is_symlink() and names_in(tmp_path) == ["link", "null"]


def test_a_full_device_names_what_was_asked_for(tmp_path):
    full = node(tmp_path / "full", FULL)
    with pytest.raises(OSError, match="No space left") as caught:
        write_output(full, b"too much")
    assert caught.value.errno == errno.ENOSPC and caught.value.filename == str(full)
    assert stat.S_ISCHR(full.stat().st_mode) and names_in(tmp_path) == ["full"]


def test_a_folder_is_refused_by_its_name(tmp_path):
    with pytest.raises(IsADirectoryError) as caught:
        write_output(tmp_path, b"")
    assert caught.value.filename == str(tmp_path)


def test_errors_name_the_file_and_not_one_beside_it(tmp_path):
    with pytest.raises(FileNotFoundError) as caught:
        write_output(tmp_path / "nowhere" / "file", b"")
    assert caught.value.filename == str(tmp_path / "nowhere" / "file")


@pytest.mark.parametrize("name", ["/dev/stdout", "/dev/fd/1", "/proc/self/fd/1", "LINK"])
@pytest.mark.parametrize("into", ["file", "pipe"])
def test_standard_output_by_name_goes_on_where_it_was(tmp_path, name, into):
    if name == "LINK":
        (tmp_path / "link").symlink_to("/dev/stdout")
    code = (
        "import sys; from pathlib import Path; from propetl.output import write_output\n"
        "print('before'); write_output(Path(sys.argv[1]), b'report\\n'); print('after')\n"
    )
    path = tmp_path / "out"
    path.write_text("there\n")
    line = [sys.executable, "-c", code, name.replace("LINK", str(tmp_path / "link"))]
    with path.open("a") as stream:
        target = stream if into == "file" else subprocess.PIPE
        done = subprocess.run(line, cwd=ROOT, stdout=target, text=True, check=True, timeout=60)
    written = path.read_text().removeprefix("there\n") if into == "file" else done.stdout
    assert written == "before\nreport\nafter\n"


def test_a_file_in_a_folder_of_somebody_else_is_written_in_place(tmp_path, monkeypatch):
    (tmp_path / "file").write_bytes(b"a longer old one")
    number = (tmp_path / "file").stat().st_ino
    monkeypatch.setattr(os, "access", lambda *_: False)
    write_output(tmp_path / "file", b"new")
    assert (tmp_path / "file").read_bytes() == b"new" and (tmp_path / "file").stat().st_ino == number
