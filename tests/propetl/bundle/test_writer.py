"""Writing a bundle whole, and adding one task to it."""

import errno
import os
import signal
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import numpy as np
import pytest

from propetl.bundle import add_task, read_bundle, write_bundle
from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import random_contents, random_task

CONFIG = PrototypeConfig(bottleneck=3)
ROOT = Path(__file__).parents[3]


def contents_of_folder(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def new_task(bundle, outputs=4, seed=7, **options):
    return random_task(bundle.info.layout, outputs, np.random.default_rng(seed), **options)


@pytest.fixture
def path(tmp_path):
    write_bundle(tmp_path / "bundle", random_contents(CONFIG))
    return tmp_path / "bundle"


class TestWriteBundle:
    def test_the_same_contents_give_the_same_bytes(self, tmp_path):
        folders = [tmp_path / str(index) for index in range(5)]
        for folder in folders:
            write_bundle(folder, random_contents(CONFIG))
        assert all(contents_of_folder(folder) == contents_of_folder(folders[0]) for folder in folders)

    def test_holds_safetensors_and_json_only(self, path):
        assert {name.rpartition(".")[2] for name in contents_of_folder(path)} == {"json", "safetensors"}

    def test_the_manifest_names_every_other_file(self, path):
        assert set(read_bundle(path).info.files) == set(contents_of_folder(path)) - {"bundle.json"}

    def test_an_existing_bundle_is_refused(self, path):
        before = contents_of_folder(path)
        with pytest.raises(ConfigurationError, match="exists already"):
            write_bundle(path, random_contents(CONFIG, seed=1))
        assert contents_of_folder(path) == before

    def test_overwriting(self, path):
        write_bundle(path, random_contents(CONFIG, seed=1), overwrite=True)
        assert np.array_equal(
            read_bundle(path).prototype["up.bias"], random_contents(CONFIG, seed=1).prototype["up.bias"]
        )
        assert [item.name for item in path.parent.iterdir()] == ["bundle"]

    def test_overwriting_something_else_is_refused(self, tmp_path):
        (tmp_path / "photos").mkdir()
        (tmp_path / "photos" / "cat.jpg").write_text("precious")
        with pytest.raises(ConfigurationError, match="was not written by propetl"):
            write_bundle(tmp_path / "photos", random_contents(CONFIG), overwrite=True)
        assert (tmp_path / "photos" / "cat.jpg").read_text() == "precious"

    @pytest.mark.parametrize("after", range(1, 10, 2))
    def test_a_full_disk_leaves_the_old_bundle(self, path, monkeypatch, after):
        before = contents_of_folder(path)
        fill_disk_after(monkeypatch, after)
        with pytest.raises(OSError, match="No space left"):
            write_bundle(path, random_contents(CONFIG, seed=1), overwrite=True)
        monkeypatch.undo()
        assert contents_of_folder(path) == before
        assert [item.name for item in path.parent.iterdir()] == ["bundle"]

    def test_contents_that_do_not_fit_are_not_written(self, tmp_path):
        contents = random_contents(CONFIG)
        contents.tasks["first"].masks["down.weight"] = np.zeros((2, 1), np.uint8)
        with pytest.raises(BundleError, match=r"task first: down\.weight"):
            write_bundle(tmp_path / "bundle", contents)
        assert list(tmp_path.iterdir()) == []

    def test_a_head_of_another_kind_is_not_written(self, tmp_path):
        contents = random_contents(CONFIG)
        contents.tasks["first"].head.update(
            {"dense.weight": np.zeros((12, 12), "f4"), "dense.bias": np.zeros(12, "f4")}
        )
        with pytest.raises(BundleError, match="head"):
            write_bundle(tmp_path / "bundle", contents)
        assert list(tmp_path.iterdir()) == []


class TestAddTask:
    def test_nothing_else_changes_by_a_byte(self, path):
        before, bundle = contents_of_folder(path), read_bundle(path)
        added = new_task(bundle)
        add_task(path, "third", added)
        after = contents_of_folder(path)
        assert set(after) - set(before) == {"tasks/third.safetensors", "tasks/third.samples.safetensors"}
        assert {name for name in before if before[name] != after[name]} == {"bundle.json"}
        again = read_bundle(path)
        assert again.info.tasks == bundle.info.tasks | {"third": added.info}
        assert {name: record for name, record in again.info.files.items() if name in before} == bundle.info.files
        assert np.array_equal(again.pack("third").masks["up.weight"], added.masks["up.weight"])

    def test_adding_later_gives_the_bytes_of_writing_at_once(self, path, tmp_path):
        contents = random_contents(CONFIG)
        third = new_task(read_bundle(path))
        add_task(path, "third", third)
        contents.tasks["third"] = third
        write_bundle(tmp_path / "at once", contents)
        both = contents_of_folder(path), contents_of_folder(tmp_path / "at once")
        assert all(both[0][name] == both[1][name] for name in both[1] if name != "bundle.json")
        assert set(both[0]) == set(both[1])

    def test_a_name_that_is_taken(self, path):
        before = contents_of_folder(path)
        with pytest.raises(TaskError, match=r"task 'first' is in .* already; nothing was changed: choose another name"):
            add_task(path, "first", new_task(read_bundle(path)))
        assert contents_of_folder(path) == before

    def test_adding_again_changes_nothing_or_is_refused(self, path):
        third = new_task(read_bundle(path))
        add_task(path, "third", third)
        before = contents_of_folder(path)
        assert "third" in add_task(path, "third", third, again=True).tasks
        with pytest.raises(TaskError, match="with other contents"):
            add_task(path, "third", new_task(read_bundle(path), seed=1), again=True)
        assert contents_of_folder(path) == before

    def test_callers_at_the_same_time_lose_no_task(self, path):
        names = [f"task{index}" for index in range(8)]
        task = new_task(read_bundle(path))
        with ThreadPoolExecutor(len(names)) as pool:
            list(pool.map(lambda name: add_task(path, name, task), names))
        assert set(names) < set(read_bundle(path).packs)

    @pytest.mark.parametrize("name", ["../x", "first.samples", "", "A"])
    def test_a_name_that_cannot_be(self, path, name):
        before = contents_of_folder(path)
        with pytest.raises(TaskError, match="task name"):
            add_task(path, name, new_task(read_bundle(path)))
        assert contents_of_folder(path) == before

    def test_a_task_that_does_not_fit(self, path):
        before, task = contents_of_folder(path), new_task(read_bundle(path))
        task.masks["up.weight"][0, -1] |= 0xF0
        with pytest.raises(BundleError, match="bits beyond its 36 entries"):
            add_task(path, "third", task)
        assert contents_of_folder(path) == before

    def test_a_head_of_another_kind(self, path):
        before = contents_of_folder(path)
        with pytest.raises(BundleError, match="kind of head is own"):
            add_task(path, "third", new_task(read_bundle(path), head="own"))
        assert contents_of_folder(path) == before

    def test_a_damaged_bundle_is_not_added_to(self, path):
        (path / "prototype.safetensors").write_bytes(b"damaged")
        before = contents_of_folder(path)
        with pytest.raises(BundleError):
            add_task(path, "third", random_task(layout_of(CONFIG, 12, 2), 2, np.random.default_rng(0)))
        assert contents_of_folder(path) == before

    @pytest.mark.parametrize("failing", [1, 2, 3])
    @pytest.mark.parametrize("call", ["fsync", "replace"])
    def test_a_fault_at_any_step_leaves_the_old_bundle_and_nothing_else(self, path, monkeypatch, call, failing):
        before, task = contents_of_folder(path), new_task(read_bundle(path))
        fail_at(monkeypatch, call, failing if call == "replace" else 2 * failing - 1)
        with pytest.raises(OSError, match="No space left"):
            add_task(path, "third", task)
        monkeypatch.undo()
        assert contents_of_folder(path) == before
        read_bundle(path)

    def test_a_fault_after_the_manifest_leaves_the_new_bundle(self, path, monkeypatch):
        task = new_task(read_bundle(path))
        fail_at(monkeypatch, "fsync", 6)  # the last: of the folder, when everything is in place
        with pytest.raises(OSError, match="No space left"):
            add_task(path, "third", task)
        monkeypatch.undo()
        assert "third" in read_bundle(path).packs

    def test_a_kill_before_the_manifest_leaves_the_old_bundle(self, path, monkeypatch):
        """SIGKILL runs no clean-up: the files of the new task stay, but no manifest names them."""
        before, task = contents_of_folder(path), new_task(read_bundle(path))
        done = subprocess.run([sys.executable, "-c", KILLED, str(path)], cwd=ROOT, timeout=60)
        assert done.returncode == -signal.SIGKILL
        after = contents_of_folder(path)
        assert {name: after[name] for name in before} == before
        assert set(read_bundle(path).info.tasks) == {"first", "second"}
        add_task(path, "third", task)  # and the name is still free
        assert "third" in read_bundle(path).packs


def no_space(*_, **__):
    raise OSError(errno.ENOSPC, "No space left on device")


def fail_at(monkeypatch, name, call):
    """Call number ``call`` of ``os.<name>``, and every one after it, fails as on a full disk."""
    real, calls = getattr(os, name), []

    def counted(*arguments):
        calls.append(arguments)
        return no_space() if len(calls) >= call else real(*arguments)

    monkeypatch.setattr(os, name, counted)


def fill_disk_after(monkeypatch, writes):
    """The disk takes ``writes`` files and then no more."""
    real, calls = Path.write_bytes, []

    def counted(self, content):
        calls.append(self)
        return no_space() if len(calls) > writes else real(self, content)

    monkeypatch.setattr(Path, "write_bytes", counted)
    fail_at(monkeypatch, "fsync", 1)


# Adds a task in a process of its own, which is killed as it puts the new manifest in place.
KILLED = """
import os, signal, sys
from pathlib import Path
import numpy as np
from propetl.bundle import add_task, read_bundle
from tests.tiny_bundle import random_task

path, replace = Path(sys.argv[1]), os.replace

def die_at_the_manifest(old, new):
    if Path(new).name == "bundle.json":
        os.kill(os.getpid(), signal.SIGKILL)
    replace(old, new)

os.replace = die_at_the_manifest
add_task(path, "third", random_task(read_bundle(path).info.layout, 4, np.random.default_rng(7)))
"""
