"""Folders that are whole or absent, and what killed runs leave of them."""

import errno
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from propetl import staging as module
from propetl.errors import ConfigurationError
from propetl.files import write_atomically
from propetl.partial import PARTIAL, REPLACED, create_folder, name_beside, remove_leftovers
from propetl.staging import scratch_folder, staged_folder
from tests.device_env import ROOT


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


def raising(error):
    def fail():
        raise error

    return fail


def fill(target, text, then=lambda: None, **options):
    """Writes one file into a staged folder, then does something else."""
    with staged_folder(target, **options) as staging:
        (staging / "file").write_text(text)
        then()


def names_in(folder):
    return sorted(path.name for path in folder.iterdir())


def folder_with(folder, text):
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


class TestStagedFolder:
    def test_appears_whole_at_the_end(self, tmp_path):
        target = tmp_path / "deep" / "target"
        with staged_folder(target) as staging:
            (staging / "sub").mkdir()
            (staging / "sub" / "file").write_text("here")
            assert not target.exists()
        assert (target / "sub" / "file").read_text() == "here" and names_in(target.parent) == ["target"]

    def test_every_file_and_folder_is_flushed_before_the_rename(self, tmp_path, monkeypatch):
        flushed, fsync = [], os.fsync

        def note(descriptor):
            flushed.append(Path(os.readlink(f"/proc/self/fd/{descriptor}")).name)
            fsync(descriptor)

        monkeypatch.setattr(os, "fsync", note)
        with staged_folder(tmp_path / "target") as staging:
            (staging / "sub").mkdir()
            (staging / "sub" / "file").write_text("here")
        assert {"file", "sub", tmp_path.name} <= set(flushed)
        assert any(name.startswith(".target.") for name in flushed)

    def test_an_error_inside_leaves_nothing(self, tmp_path):
        with pytest.raises(RuntimeError, match="halfway"):
            fill(tmp_path / "target", "half", then=raising(RuntimeError("halfway")))
        assert names_in(tmp_path) == []

    @pytest.mark.parametrize("error", [KeyboardInterrupt, OSError(errno.ENOSPC, "No space left on device")])
    def test_an_error_inside_leaves_the_old_folder(self, tmp_path, error):
        target = folder_with(tmp_path / "target", "old")
        with pytest.raises((KeyboardInterrupt, OSError)):
            fill(target, "half", then=raising(error), overwrite=True)
        assert (target / "file").read_text() == "old" and names_in(tmp_path) == ["target"]

    def test_overwriting_leaves_only_the_new(self, tmp_path):
        target = folder_with(tmp_path / "target", "old")
        (target / "more").write_text("old")
        with staged_folder(target, overwrite=True) as staging:
            (staging / "file").write_text("new")
            assert (target / "file").read_text() == "old"
        assert (target / "file").read_text() == "new" and names_in(target) == ["file"]
        assert names_in(tmp_path) == ["target"]

    @pytest.mark.parametrize("failing", [1, 2])
    def test_a_rename_that_fails_leaves_the_old_folder(self, tmp_path, monkeypatch, failing):
        target = folder_with(tmp_path / "target", "old")
        monkeypatch.setattr(module, "_exchanged", lambda *_: False)
        replace, calls = os.replace, []

        def fail_once(*names):
            calls.append(names)
            if len(calls) == failing:
                no_space()
            replace(*names)

        monkeypatch.setattr(os, "replace", fail_once)
        with pytest.raises(OSError, match="No space left"):
            fill(target, "new", overwrite=True)
        assert (target / "file").read_text() == "old" and names_in(tmp_path) == ["target"]

    @pytest.mark.parametrize("exchanges", [True, False], ids=["one step", "two steps"])
    def test_overwriting_works_where_folders_can_be_exchanged_and_where_not(self, tmp_path, monkeypatch, exchanges):
        if not exchanges:
            monkeypatch.setattr(module, "_exchanged", lambda *_: False)
        target = folder_with(tmp_path / "target", "old")
        with staged_folder(target, overwrite=True) as staging:
            (staging / "file").write_text("new")
        assert (target / "file").read_text() == "new" and names_in(tmp_path) == ["target"]

    def test_an_existing_folder_is_refused_before_any_work(self, tmp_path):
        target, worked = folder_with(tmp_path / "target", "old"), []
        with pytest.raises(ConfigurationError, match=r"exists already: .*--overwrite"):
            fill(target, "new", then=lambda: worked.append("yes"))
        assert not worked and (target / "file").read_text() == "old"

    def test_a_folder_that_appears_meanwhile_is_not_replaced(self, tmp_path):
        target = tmp_path / "target"
        with pytest.raises(ConfigurationError, match="exists already"):
            fill(target, "mine", then=lambda: folder_with(target, "of another process"))
        assert (target / "file").read_text() == "of another process" and names_in(tmp_path) == ["target"]

    def test_an_empty_folder_is_filled(self, tmp_path):
        (tmp_path / "target").mkdir()
        with staged_folder(tmp_path / "target") as staging:
            (staging / "file").write_text("new")
        assert names_in(tmp_path / "target") == ["file"] and names_in(tmp_path) == ["target"]

    def test_the_working_directory_can_be_the_target(self, tmp_path, monkeypatch):
        here = tmp_path / "here"
        here.mkdir()
        monkeypatch.chdir(here)
        with staged_folder(Path(".")) as staging:
            (staging / "file").write_text("new")
        assert names_in(here) == ["file"] and names_in(tmp_path) == ["here"]

    def test_what_is_no_folder_is_never_replaced(self, tmp_path):
        (tmp_path / "file").write_text("precious")
        (tmp_path / "link").symlink_to(tmp_path / "file")
        (tmp_path / "circle").symlink_to(tmp_path / "circle")
        os.mkfifo(tmp_path / "pipe")
        there = names_in(tmp_path)
        for name in there:
            with pytest.raises(ConfigurationError, match="a file is there"):
                fill(tmp_path / name, "new", overwrite=True)
        assert (tmp_path / "file").read_text() == "precious" and names_in(tmp_path) == there

    def test_links_to_folders_are_followed_and_stay(self, tmp_path):
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        (tmp_path / "link").symlink_to(elsewhere / "target")
        fill(tmp_path / "link", "one")
        with pytest.raises(ConfigurationError, match="exists already"):
            fill(tmp_path / "link", "two")
        fill(tmp_path / "link", "two", overwrite=True, marker="file")
        assert (tmp_path / "link").is_symlink() and (elsewhere / "target" / "file").read_text() == "two"
        assert names_in(tmp_path) == ["elsewhere", "link"] and names_in(elsewhere) == ["target"]

    @pytest.mark.parametrize("exchanges", [True, False], ids=["one step", "two steps"])
    def test_a_folder_that_is_there_keeps_its_mode(self, tmp_path, monkeypatch, exchanges):
        if not exchanges:
            monkeypatch.setattr(module, "_exchanged", lambda *_: False)
        target = folder_with(tmp_path / "target", "old")
        target.chmod(0o750)
        fill(target, "new", overwrite=True)
        assert (target / "file").read_text() == "new" and target.stat().st_mode & 0o777 == 0o750

    def test_overwrite_does_not_replace_a_folder_of_something_else(self, tmp_path):
        target = tmp_path / "thesis"
        target.mkdir()
        (target / "chapter").write_text("precious")
        with pytest.raises(ConfigurationError, match="was not written by propetl"):
            fill(target, "new", overwrite=True, marker="bundle.json")
        assert (target / "chapter").read_text() == "precious"

    def test_no_permission_is_one_clear_line(self, tmp_path, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, "mkdir", refuse)
        with pytest.raises(ConfigurationError, match=r"^cannot write .*target: no permission"):
            fill(tmp_path / "target", "new")

    def test_a_file_where_a_folder_is_due_is_one_clear_line(self, tmp_path):
        (tmp_path / "file").write_text("")
        with pytest.raises(ConfigurationError, match="cannot write"):
            fill(tmp_path / "file" / "target", "new")


KILLED = """
import os, signal, sys
from pathlib import Path
from propetl.staging import staged_folder
with staged_folder(Path(sys.argv[1]), overwrite=True) as staging:
    (staging / "file").write_text("half")
    print("begun", flush=True)
    if sys.argv[2] == "kill":
        os.kill(os.getpid(), signal.SIGKILL)
    sys.stdin.read()
"""


class TestLeftovers:
    def killed(self, target):
        done = subprocess.run([sys.executable, "-c", KILLED, str(target), "kill"], cwd=ROOT, capture_output=True)
        assert done.returncode == -signal.SIGKILL

    def test_of_a_killed_run_go_with_the_next(self, tmp_path):
        self.killed(tmp_path / "target")
        assert len(names_in(tmp_path)) == 1
        fill(tmp_path / "target", "whole")
        assert names_in(tmp_path) == ["target"]

    def test_of_a_killed_run_go_even_if_the_next_fails(self, tmp_path):
        self.killed(tmp_path / "target")
        folder_with(tmp_path / "target", "old")
        with pytest.raises(ConfigurationError, match="exists already"):
            fill(tmp_path / "target", "new")
        assert names_in(tmp_path) == ["target"]

    def test_of_other_targets_stay(self, tmp_path):
        for name in ("target.b", "targe", "other", ".target"):
            self.killed(tmp_path / name)
        before = names_in(tmp_path)
        fill(tmp_path / "target", "whole")
        assert names_in(tmp_path) == sorted([*before, "target"])

    def test_are_not_what_a_living_process_works_on(self, tmp_path):
        line = [sys.executable, "-c", KILLED, str(tmp_path / "target"), "wait"]
        with subprocess.Popen(line, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as neighbour:
            assert neighbour.stdin is not None and neighbour.stdout is not None
            assert neighbour.stdout.readline() == "begun\n"
            (theirs,) = names_in(tmp_path)
            fill(tmp_path / "target", "ours")
            assert names_in(tmp_path) == sorted([theirs, "target"])
            neighbour.stdin.close()
            assert neighbour.wait(60) == 0
        assert (tmp_path / "target" / "file").read_text() == "half" and names_in(tmp_path) == ["target"]

    def test_are_not_what_a_thread_of_this_process_works_on(self, tmp_path):
        with scratch_folder(tmp_path / "target") as staging:
            remove_leftovers(tmp_path / "target")
            with scratch_folder(tmp_path / "target") as another:
                assert staging.is_dir() and another.is_dir() and staging != another
        assert names_in(tmp_path) == []

    def test_of_files_go_too(self, tmp_path):
        name_beside(tmp_path / "file").write_bytes(b"half")
        name_beside(tmp_path / "other").write_bytes(b"half")
        write_atomically(tmp_path / "file", b"whole")
        assert len(names_in(tmp_path)) == 2 and "file" in names_in(tmp_path)

    def test_a_folder_that_was_moved_aside_comes_back(self, tmp_path):
        """Killed between the two renames: it is the only copy."""
        folder_with(name_beside(tmp_path / "target", REPLACED), "old")
        folder_with(name_beside(tmp_path / "target", PARTIAL), "half")
        with pytest.raises(ConfigurationError, match="exists already"):
            fill(tmp_path / "target", "new")
        assert (tmp_path / "target" / "file").read_text() == "old" and names_in(tmp_path) == ["target"]

    def test_a_folder_that_was_replaced_goes(self, tmp_path):
        folder_with(tmp_path / "target", "new")
        folder_with(name_beside(tmp_path / "target", REPLACED), "old")
        remove_leftovers(tmp_path / "target")
        assert names_in(tmp_path) == ["target"]

    def test_are_made_again_where_a_neighbour_was_faster(self, tmp_path, monkeypatch):
        """It saw the new folder before it was locked, and took it for a leftover."""
        mkdir, made = Path.mkdir, []

        def lose_the_first(path, *rest):
            mkdir(path, *rest)
            made.append(path)
            if len(made) == 1:
                remove_leftovers(tmp_path / "target")

        monkeypatch.setattr(Path, "mkdir", lose_the_first)
        path, descriptor = create_folder(tmp_path / "target")
        os.close(descriptor)
        assert len(made) == 2 and names_in(tmp_path) == [path.name]
