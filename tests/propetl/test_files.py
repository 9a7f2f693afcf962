"""Files that are whole or absent, and paths that stay inside their folder."""

import errno
import hashlib
import os
from pathlib import Path

import pytest

from propetl import files
from propetl.errors import BundleError, ConfigurationError
from propetl.files import (
    file_record,
    folder_records,
    json_bytes,
    path_inside,
    sha256_of_bytes,
    sha256_of_file,
    staged_folder,
    verify_files,
    write_atomically,
)

CLIMBING = ["..", "../x", "a/../../x", "a/.."]
NO_NAMES = ["a\0b", "a\nb", "\udc80", "x" * 5000]


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


class TestHashes:
    def test_of_bytes_and_files_are_sha256(self, tmp_path):
        content = bytes(range(256)) * 9000  # more than two chunks
        (tmp_path / "file").write_bytes(content)
        expected = hashlib.sha256(content).hexdigest()
        assert sha256_of_bytes(content) == sha256_of_file(tmp_path / "file") == expected
        assert file_record(tmp_path / "file") == {"sha256": expected, "bytes": len(content)}

    def test_json_is_utf8_and_keeps_the_order_of_keys(self):
        assert json_bytes({"b": 1, "a": "é"}) == '{\n  "b": 1,\n  "a": "é"\n}\n'.encode()


class TestWriteAtomically:
    def test_writes_and_replaces(self, tmp_path):
        write_atomically(tmp_path / "file", b"old")
        write_atomically(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"new" and names_in(tmp_path) == ["file"]

    @pytest.mark.parametrize("step", ["fsync", "replace"])
    def test_a_full_disk_leaves_the_old_file(self, tmp_path, monkeypatch, step):
        write_atomically(tmp_path / "file", b"old")
        monkeypatch.setattr(os, step, no_space)
        with pytest.raises(OSError, match="No space left"):
            write_atomically(tmp_path / "file", b"new")
        assert (tmp_path / "file").read_bytes() == b"old" and names_in(tmp_path) == ["file"]

    def test_an_interrupt_leaves_no_litter(self, tmp_path, monkeypatch):
        def interrupt(*_):
            raise KeyboardInterrupt

        monkeypatch.setattr(os, "fsync", interrupt)
        with pytest.raises(KeyboardInterrupt):
            write_atomically(tmp_path / "file", b"new")
        assert names_in(tmp_path) == []

    def test_the_content_is_on_disk_before_the_name(self, tmp_path, monkeypatch):
        steps = []
        fsync, replace = os.fsync, os.replace
        monkeypatch.setattr(os, "fsync", lambda descriptor: (steps.append("fsync"), fsync(descriptor))[1])
        monkeypatch.setattr(os, "replace", lambda *names: (steps.append("rename"), replace(*names))[1])
        write_atomically(tmp_path / "file", b"new")
        assert steps == ["fsync", "rename", "fsync"]


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
        monkeypatch.setattr(files, "_exchanged", lambda *_: False)
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
            monkeypatch.setattr(files, "_exchanged", lambda *_: False)
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

    def test_a_file_or_a_link_is_never_replaced(self, tmp_path):
        (tmp_path / "file").write_text("precious")
        (tmp_path / "link").symlink_to(folder_with(tmp_path / "folder", "precious"))
        for name in ("file", "link"):
            with pytest.raises(ConfigurationError, match="a file or link is there"):
                fill(tmp_path / name, "new", overwrite=True)
        assert (tmp_path / "folder" / "file").read_text() == "precious"

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


class TestPathInside:
    @pytest.mark.parametrize("relative", ["a", "a/b.txt", "a/./b", "tasks/x.y.safetensors"])
    def test_paths_inside(self, tmp_path, relative):
        assert path_inside(tmp_path, relative, BundleError) == tmp_path / relative

    @pytest.mark.parametrize("relative", ["", ".", "./", "/etc/passwd", "C:/x", "a\\..\\x", *CLIMBING, *NO_NAMES])
    def test_anything_else_is_refused(self, tmp_path, relative):
        with pytest.raises(BundleError, match="do not use it") as caught:
            path_inside(tmp_path, relative, BundleError)
        assert str(tmp_path) in str(caught.value)

    def test_links_that_leave_are_refused(self, tmp_path):
        root, outside = tmp_path / "root", folder_with(tmp_path / "outside", "secret")
        root.mkdir()
        (root / "file").symlink_to(outside / "file")
        (root / "folder").symlink_to(outside)
        for relative in ("file", "folder/file", "folder/new"):
            with pytest.raises(BundleError, match="leaves the folder"):
                path_inside(root, relative, BundleError)

    def test_a_link_that_bites_its_tail_is_refused(self, tmp_path):
        (tmp_path / "loop").symlink_to(tmp_path / "loop")
        with pytest.raises(BundleError, match="do not use it"):
            path_inside(tmp_path, "loop/file", BundleError)

    def test_links_inside_are_fine(self, tmp_path):
        folder_with(tmp_path / "real", "here")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert path_inside(tmp_path, "link/file", BundleError).read_text() == "here"

    def test_a_root_behind_a_link_is_fine(self, tmp_path):
        folder_with(tmp_path / "real", "here")
        (tmp_path / "link").symlink_to(tmp_path / "real")
        assert path_inside(tmp_path / "link", "file", BundleError).read_text() == "here"


class TestVerifyFiles:
    @pytest.fixture
    def root(self, tmp_path):
        return folder_with(tmp_path / "root", "content")

    @pytest.fixture
    def records(self, root):
        return {"file": file_record(root / "file")}

    def test_what_was_recorded_passes(self, root, records):
        verify_files(root, records, BundleError)

    def test_missing(self, root, records):
        (root / "file").unlink()
        with pytest.raises(BundleError, match="file is missing"):
            verify_files(root, records, BundleError)

    def test_a_folder_in_its_place(self, root, records):
        (root / "file").unlink()
        (root / "file").mkdir()
        with pytest.raises(BundleError, match="file is missing"):
            verify_files(root, records, BundleError)

    def test_truncated(self, root, records):
        (root / "file").write_text("conten")
        with pytest.raises(BundleError, match="has 6 bytes, its manifest says 7"):
            verify_files(root, records, BundleError)

    def test_changed(self, root, records):
        (root / "file").write_text("cOntent")
        with pytest.raises(BundleError, match="file: its SHA-256"):
            verify_files(root, records, BundleError)

    @pytest.mark.parametrize("asked", ["open", "is_file"], ids=["file", "its folder"])
    def test_unreadable(self, root, records, monkeypatch, asked):
        def refuse(*_, **__):
            raise PermissionError(errno.EACCES, "Permission denied")

        monkeypatch.setattr(Path, asked, refuse)
        with pytest.raises(BundleError, match="no permission to read file"):
            verify_files(root, records, BundleError)

    @pytest.mark.parametrize("record", [{}, {"bytes": 7}, {"sha256": "x"}, None, 3, [], {"bytes": "7", "sha256": 1}])
    def test_a_record_that_says_nothing(self, root, record):
        with pytest.raises(BundleError, match="file"):
            verify_files(root, {"file": record}, BundleError)


def folder_with(folder, text):
    folder.mkdir()
    (folder / "file").write_text(text)
    return folder


def test_hard_links_of_one_file_are_hashed_once(tmp_path, monkeypatch):
    (tmp_path / "b").mkdir()
    (tmp_path / "a").write_bytes(b"weights")
    (tmp_path / "b" / "link").hardlink_to(tmp_path / "a")
    (tmp_path / "b" / "other").write_bytes(b"weights")
    hashed = []
    monkeypatch.setattr("propetl.files.file_record", lambda path: (hashed.append(path.name), file_record(path))[1])
    records = folder_records(tmp_path)
    assert hashed == ["a", "other"]
    assert list(records) == ["a", "b/link", "b/other"]
    assert records == dict.fromkeys(records, file_record(tmp_path / "a"))
