"""Files that are whole or absent, and paths that stay inside their folder."""

import errno
import hashlib
import os
import stat
from pathlib import Path

import pytest

from propetl.errors import BundleError, ConfigurationError
from propetl.files import (
    file_record,
    folder_records,
    json_bytes,
    make_folder,
    path_inside,
    records_of,
    sha256_of_bytes,
    sha256_of_file,
    verify_files,
    write_atomically,
)

CLIMBING = ["..", "../x", "a/../../x", "a/.."]
NO_NAMES = ["a\0b", "a\nb", "\udc80", "x" * 5000]


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device", "somewhere")


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

    def test_a_new_file_obeys_the_umask_and_an_old_one_keeps_its_mode(self, tmp_path):
        old = os.umask(0o027)
        try:
            write_atomically(tmp_path / "new", b"")
        finally:
            os.umask(old)
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o640
        (tmp_path / "new").chmod(0o604)
        write_atomically(tmp_path / "new", b"more")
        assert stat.S_IMODE((tmp_path / "new").stat().st_mode) == 0o604

    def test_links_are_followed_and_stay(self, tmp_path):
        (tmp_path / "link").symlink_to("file")
        for content in (b"one", b"two"):
            write_atomically(tmp_path / "link", content)
            assert (tmp_path / "link").is_symlink() and (tmp_path / "file").read_bytes() == content

    def test_a_hard_link_elsewhere_keeps_the_old_content(self, tmp_path):
        """Artifacts share files by hard links: rewriting one must not change another."""
        write_atomically(tmp_path / "file", b"old")
        (tmp_path / "other").hardlink_to(tmp_path / "file")
        write_atomically(tmp_path / "file", b"new")
        assert (tmp_path / "other").read_bytes() == b"old"

    @pytest.mark.parametrize("make", [os.mkfifo, os.mkdir], ids=["pipe", "folder"])
    def test_what_is_no_regular_file_is_refused(self, tmp_path, make):
        make(tmp_path / "node")
        with pytest.raises(ConfigurationError, match="no regular file"):
            write_atomically(tmp_path / "node", b"new")
        assert names_in(tmp_path) == ["node"] and not (tmp_path / "node").is_file()

    def test_a_name_of_full_length(self, tmp_path):
        write_atomically(tmp_path / ("x" * 255), b"new")
        assert names_in(tmp_path) == ["x" * 255]


class TestMakeFolder:
    def test_every_new_name_is_flushed(self, tmp_path, monkeypatch):
        flushed = []
        monkeypatch.setattr("propetl.files.flush", flushed.append)
        make_folder(tmp_path / "a" / "b" / "c")
        assert (tmp_path / "a" / "b" / "c").is_dir()
        assert set(flushed) == {tmp_path, tmp_path / "a", tmp_path / "a" / "b"}
        flushed.clear()
        make_folder(tmp_path / "a" / "b")
        assert flushed == []


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

    @pytest.mark.parametrize(
        "record",
        [
            {},
            {"bytes": 7},
            {"sha256": "x"},
            None,
            3,
            [],
            {"bytes": "7", "sha256": "x"},
            {"bytes": True, "sha256": "x"},
            {"bytes": -1, "sha256": "x"},
            {"bytes": 2**63, "sha256": "x"},
            {"bytes": 7, "sha256": 1},
        ],
    )
    def test_a_record_that_says_nothing(self, record):
        with pytest.raises(ValueError, match=r"^files\.a[. ]"):
            records_of({"a": record})
        assert records_of({"a": {"bytes": 7, "sha256": "x"}}) == {"a": {"bytes": 7, "sha256": "x"}}


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
