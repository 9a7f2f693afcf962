"""A disk that is full at any file that a run writes: one line, what was saved stays, and the run goes on from it."""

import errno
import fnmatch
import os
from pathlib import Path

import pytest

from propetl.bundle import read_bundle
from propetl.errors import ConfigurationError
from propetl.training.checkpoints import complete_checkpoints
from propetl.training.run import train
from tests.propetl.training.conftest import files_of, small_config

OPTIONS = {"tasks": ["mood"], "max_steps": 2, "eval_every": 1, "save_every": 1, "tensorboard": True, "max_dev_rows": 4}


@pytest.fixture(scope="module")
def undisturbed(backbone_folder, data_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    (result,) = train(small_config({"backbone": backbone_folder, "data": data_folder, "output": output}, **OPTIONS))
    return files_of(result.bundle)


def _full():
    return OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


class _FullStream:
    def __enter__(self):
        return self

    def __exit__(self, *_):
        return None

    def write(self, _):
        raise _full()


def fill_up(monkeypatch, pattern, call):
    """No space when files are flushed, or lines appended, whose path fits ``pattern``, from the ``call``-th time on."""
    sync, open_, seen = os.fsync, Path.open, []

    def is_full(path):
        if fnmatch.fnmatch(str(path), f"*{pattern}*"):
            seen.append(path)
        return len(seen) >= call

    def fsync(descriptor):
        if is_full(os.readlink(f"/proc/self/fd/{descriptor}")):
            raise _full()
        sync(descriptor)

    def opened(path, mode="r", *arguments, **keywords):
        if "a" in mode and is_full(path):
            return _FullStream()
        return open_(path, mode, *arguments, **keywords)

    monkeypatch.setattr(os, "fsync", fsync)
    monkeypatch.setattr(Path, "open", opened)


@pytest.mark.parametrize(
    ("pattern", "call", "saved"),
    [
        ("inputs.json", 1, []),
        ("train-config.json", 1, []),
        ("log.jsonl", 4, [1]),
        ("tfevents", 4, [1]),
        ("checkpoint-1*/model.safetensors", 1, []),
        ("checkpoint-2*/optimizer.pt", 1, [1]),
        ("checkpoint-2*/complete.json", 1, [1]),
        ("bundle*/tasks/mood.safetensors", 1, [2]),
        ("train.json", 1, [2]),
    ],
)
def test_what_was_saved_stays_and_the_run_goes_on(make_config, undisturbed, monkeypatch, pattern, call, saved):
    config = make_config(**OPTIONS)
    with monkeypatch.context() as patch:
        fill_up(patch, pattern, call)
        with pytest.raises(ConfigurationError) as error:
            train(config)
    told, advice = str(error.value).split(": ")
    assert told.startswith(f"no space left on the disk for {config.output}")
    assert advice == "free some and go on with --resume"
    assert {checkpoint.step for checkpoint in complete_checkpoints(config.output / "checkpoints")} >= set(saved)
    assert not list(config.output.rglob("*.partial"))
    (resumed,) = train(config, resume=True)
    assert files_of(resumed.bundle) == undisturbed
    read_bundle(resumed.bundle)
