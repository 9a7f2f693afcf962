"""Two processes on the CPU against one."""

import json
import os
import subprocess
import sys

import numpy as np
import pytest
import yaml

from propetl.bundle import read_bundle
from propetl.training import trainer
from propetl.training.run import train
from tests.device_env import ROOT
from tests.propetl.training.conftest import TASKS, files_of

pytestmark = pytest.mark.slow

OPTIONS = {"max_steps": 12, "eval_every": 5, "save_every": 3, "threads": 1, "dropout": 0.2}


def torchrun(config, folder, *arguments):
    """``torchrun`` picks a free port by ``--standalone``, so that tests may run side by side."""
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_json()))
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2"]
    return subprocess.run(
        [*command, "-m", "propetl", "train", path, *arguments],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "error:::propetl"},
        capture_output=True,
        text=True,
        timeout=300,
    )


HYBRID = {
    "tasks": {"mood": {**TASKS["mood"], "language": "de"}, "topic": {**TASKS["topic"], "language": "en"}},
    "prototype": {"bottleneck": 4, "masks": "hybrid", "sparsity": 0.3},
    "temperature": 10,
    "label_smoothing": 0.1,
}


@pytest.mark.parametrize("changes", [{}, HYBRID], ids=["layer", "hybrid"])
def test_two_processes_leave_the_bundle_of_one(make_config, tmp_path, changes):
    """The same bytes: masks, prototype, heads, scores; with dropout, tasks of different sizes and short rows."""
    options = {**OPTIONS, **changes}
    (alone,) = train(make_config(**options))
    config = make_config(**options, output=str(tmp_path / "two"))
    done = torchrun(config, tmp_path)
    assert done.returncode == 0, done.stderr
    assert files_of(config.output / "bundle") == files_of(alone.bundle)
    report = json.loads((config.output / "train.json").read_text())
    assert report["conditions"]["processes"] == 2
    assert report["scores"] == alone.scores
    logged = [json.loads(line) for line in (config.output / "log.jsonl").read_text().splitlines()]
    assert [entry["step"] for entry in logged if "loss" in entry] == list(range(1, 13))  # one process writes
    assert done.stderr.count("step 12/12  average") == 1


def test_with_accumulation_the_masks_are_the_same(make_config, tmp_path):
    """Gradients of several batches are added up in another order, so floats differ in their last digits."""
    changes = {"gradient_accumulation": 3, "group_by_length": False}
    (alone,) = train(make_config(**OPTIONS, **changes))
    config = make_config(**OPTIONS, **changes, output=str(tmp_path / "two"))
    done = torchrun(config, tmp_path)
    assert done.returncode == 0, done.stderr
    one, two = read_bundle(alone.bundle), read_bundle(config.output / "bundle")
    for task, pack in one.packs.items():
        for name, mask in pack.masks.items():
            assert np.array_equal(mask, two.packs[task].masks[name])
    for name, tensor in one.prototype.items():
        np.testing.assert_allclose(two.prototype[name], tensor, rtol=1e-5, atol=1e-6)


def test_two_processes_go_on_where_one_was_killed(make_config, tmp_path, monkeypatch):
    (alone,) = train(make_config(**OPTIONS, output=str(tmp_path / "undisturbed")))
    config = make_config(**OPTIONS)

    class Killed(BaseException):
        pass

    def evaluate(*_):
        raise Killed

    with monkeypatch.context() as patch:
        patch.setattr(trainer, "evaluate_tasks", evaluate)  # at step 5; the last checkpoint is that of step 3
        with pytest.raises(Killed):
            train(config)
    done = torchrun(config, tmp_path, "--resume")
    assert done.returncode == 0, done.stderr
    assert files_of(config.output / "bundle") == files_of(alone.bundle)


@pytest.mark.parametrize("changes", [{"data": "/nowhere"}, {"batch_size": 9}], ids=["data", "batch"])
def test_a_refusal_ends_all_processes(make_config, tmp_path, changes):
    config = make_config(**OPTIONS, **changes)
    done = torchrun(config, tmp_path)
    assert done.returncode != 0
    assert "propetl: error: " in done.stderr
    assert not config.output.exists()


def test_a_taken_folder_ends_all_processes(make_config, tmp_path):
    config = make_config(**OPTIONS)
    config.output.mkdir()
    (config.output / "mine").touch()
    done = torchrun(config, tmp_path)
    assert done.returncode != 0
    assert "run exists already" in done.stderr
    assert [path.name for path in config.output.iterdir()] == ["mine"]
