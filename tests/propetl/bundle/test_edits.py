"""A task leaves a bundle, gets another name, or is replaced by a newer one."""

import shutil
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from typing import Any

import numpy as np
import pytest

from propetl.bundle import Bundle, add_task, edits, read_bundle, write_bundle
from propetl.errors import BundleError, TaskError
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import random_contents, random_task

CONFIG = PrototypeConfig(bottleneck=3)


def files_of(folder):
    return {path.relative_to(folder).as_posix(): path.read_bytes() for path in folder.rglob("*") if path.is_file()}


def newer(bundle, outputs, seed=7):
    return random_task(bundle.info.layout, outputs, np.random.default_rng(seed))


@pytest.fixture
def path(tmp_path):
    """Tasks ``first``, ``second`` and ``third``, and a file that is not the bundle's own."""
    write_bundle(tmp_path / "bundle", random_contents(CONFIG))
    add_task(tmp_path / "bundle", "third", newer(read_bundle(tmp_path / "bundle"), 4))
    (tmp_path / "bundle" / "notes.txt").write_text("mine")
    return tmp_path / "bundle"


def test_a_removed_task_leaves_the_others_by_the_byte(path):
    before = files_of(path)
    after = Bundle.load(path).remove_task("first")
    assert after.tasks == ("second", "third")
    gone = {"tasks/first.safetensors", "tasks/first.samples.safetensors"}
    assert set(before) - set(files_of(path)) == gone
    assert {name for name, content in files_of(path).items() if before[name] != content} == {"bundle.json"}
    assert gone.isdisjoint(after.info.files)


def test_adding_what_was_removed_gives_the_same_files(path):
    before = files_of(path)
    Bundle.load(path).remove_task("third")
    add_task(path, "third", newer(read_bundle(path), 4))
    assert files_of(path) == before


def test_the_only_task_stays(path):
    bundle = Bundle.load(path).remove_task("first").remove_task("third")
    before = files_of(path)
    with pytest.raises(TaskError, match=r"task 'second' is the only one in .*: remove the folder, or add"):
        bundle.remove_task("second")
    assert files_of(path) == before


def test_a_renamed_task_is_the_same_task(path):
    before = Bundle.load(path)
    samples = before.samples("first")
    after = before.rename_task("first", "primary")
    assert after.tasks == ("primary", "second", "third")
    old, new = before.pack("first"), after.pack("primary")
    assert new.task == new.info.name == "primary" and new.info == old.info
    assert after.info.tasks["primary"].name == "primary"
    assert after.info.tasks["primary"].scores == before.info.tasks["first"].scores != {}
    assert all(np.array_equal(new.tensors()[name], tensor) for name, tensor in old.tensors().items())
    assert all(np.array_equal(after.samples("primary")[name], ids) for name, ids in samples.items())
    assert not (path / "tasks" / "first.safetensors").exists()


def test_a_task_is_replaced_by_one_that_a_copy_was_trained_with(path, tmp_path):
    shutil.copytree(path, tmp_path / "copy")
    copy = Bundle.load(tmp_path / "copy").remove_task("first")
    task = newer(copy, 5, seed=8)
    add_task(copy.path, "first", task)
    untouched = files_of(tmp_path / "copy")
    after = Bundle.load(path).replace_task("first", Bundle.load(copy.path))
    assert after.tasks == ("first", "second", "third") and after.info.tasks["first"] == task.info
    assert np.array_equal(after.pack("first").head["weight"], task.head["weight"])
    assert files_of(tmp_path / "copy") == untouched


def test_a_task_is_replaced_by_another_of_the_same_bundle(path):
    bundle = Bundle.load(path)
    after = bundle.replace_task("first", bundle, of="third")
    assert after.info.tasks["first"] == after.info.tasks["third"]
    assert np.array_equal(after.pack("first").masks["up.weight"], after.pack("third").masks["up.weight"])


def test_a_task_of_another_prototype_is_refused(path, tmp_path):
    write_bundle(tmp_path / "other", random_contents(CONFIG, seed=9))
    before = files_of(path)
    with pytest.raises(TaskError, match="made for prototype"):
        Bundle.load(path).replace_task("first", Bundle.load(tmp_path / "other"))
    assert files_of(path) == before


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda bundle: bundle.remove_task("fourth"), "'fourth' is not in .*; it has first, second, third"),
        (lambda bundle: bundle.rename_task("fourth", "x"), "'fourth' is not in"),
        (lambda bundle: bundle.rename_task("first", "second"), "'second' is in .* already"),
        (lambda bundle: bundle.rename_task("first", "../x"), "task name"),
        (lambda bundle: bundle.rename_task("first", "first"), "'first' is in .* already"),
        (lambda bundle: bundle.replace_task("fourth", bundle, of="first"), "'fourth' is not in"),
        (lambda bundle: bundle.replace_task("first", bundle, of="fourth"), "'fourth' is not in"),
    ],
)
def test_a_name_that_cannot_be_changes_nothing(path, change, message):
    before = files_of(path)
    with pytest.raises(TaskError, match=message):
        change(Bundle.load(path))
    assert files_of(path) == before and [one.name for one in path.parent.iterdir()] == ["bundle"]


def test_a_fault_leaves_the_old_bundle_and_nothing_beside_it(path, monkeypatch):
    before = files_of(path)

    def fails(*_):
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(edits, "write_atomically", fails)
    with pytest.raises(OSError, match="No space left"):
        Bundle.load(path).rename_task("first", "primary")
    assert files_of(path) == before and [one.name for one in path.parent.iterdir()] == ["bundle"]


def test_changes_at_the_same_time_lose_nothing(path):
    """Each waits for the folder that the one before put there, and not for the folder that is gone."""
    names = [f"task{index}" for index in range(6)]
    task = newer(read_bundle(path), 4)
    changes: list[Any] = [partial(add_task, path, name, task) for name in names]
    changes += [partial(edits.rename_task, path, "first", "primary"), partial(edits.remove_task, path, "third")]
    with ThreadPoolExecutor(len(changes)) as pool:
        for future in [pool.submit(change) for change in changes]:
            future.result()
    assert set(Bundle.load(path).tasks) == {*names, "primary", "second"}


def test_without_a_folder(tmp_path):
    with pytest.raises(BundleError, match="no bundle is there"):
        edits.remove_task(tmp_path / "nothing", "first")
