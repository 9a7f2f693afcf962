"""SIGKILL, the real one: at a step, while a checkpoint is written, while the bundle is written, at any time."""

import random
import signal
import subprocess
import sys
import time

import pytest
import yaml

from propetl.training.checkpoints import MARKER, complete_checkpoints
from propetl.training.run import train
from tests.device_env import ROOT
from tests.propetl.training.conftest import files_of, small_config

OPTIONS = {"max_steps": 40, "eval_every": 7, "save_every": 3, "batch_size": 10, "dropout": 0.2, "threads": 1}
PATIENCE_SECONDS = 120


@pytest.fixture(scope="module")
def undisturbed(backbone_folder, data_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    (result,) = train(small_config({"backbone": backbone_folder, "data": data_folder, "output": output}, **OPTIONS))
    return files_of(result.bundle)


class Run:
    """One run, started again and again in a process of its own."""

    def __init__(self, config, folder):
        self.output = config.output
        self.path = folder / "config.yaml"
        self.path.write_text(yaml.safe_dump(config.to_json()))

    def start(self):
        command = [sys.executable, "-W", "error", "-m", "propetl", "train", self.path, "--resume"]
        return subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)

    def kill_when(self, reached):
        """Kills the process as soon as ``reached()``; fails if it ends or hangs before that."""
        process = self.start()
        deadline = time.monotonic() + PATIENCE_SECONDS
        while not reached():
            assert process.poll() is None, process.communicate()[0]
            assert time.monotonic() < deadline
            time.sleep(0.0005)
        process.send_signal(signal.SIGKILL)
        process.communicate()
        assert process.returncode == -signal.SIGKILL

    def finish(self):
        process = self.start()
        output, _ = process.communicate(timeout=PATIENCE_SECONDS)
        assert process.returncode == 0, output

    def steps(self):
        return [checkpoint.step for checkpoint in complete_checkpoints(self.output / "checkpoints")]

    def saving(self):
        return [path for path in self.output.glob("checkpoints/checkpoint-*") if not (path / MARKER).exists()]


@pytest.fixture
def run(make_config, tmp_path):
    return Run(make_config(**OPTIONS), tmp_path)


@pytest.mark.slow
def test_killed_again_and_again_it_ends_as_undisturbed(run, undisturbed):
    run.kill_when(lambda: run.output.exists())
    run.kill_when(run.saving)  # in the middle of the first checkpoint
    run.kill_when(lambda: len(run.steps()) and max(run.steps()) >= 9)
    run.kill_when(lambda: max(run.steps()) >= 21 and run.saving())
    run.kill_when(lambda: [*run.output.glob(".bundle.*"), *run.output.glob("bundle")])
    assert max(run.steps()) == 40
    run.finish()
    assert files_of(run.output / "bundle") == undisturbed
    assert not [path for path in run.output.iterdir() if path.name.startswith(".bundle")]


@pytest.mark.slow
def test_killed_at_random_it_ends_as_undisturbed(run, undisturbed):
    pause = random.Random(11)
    for _ in range(3):
        done = len(run.steps()) and max(run.steps())
        moment = pause.uniform(0, 0.3)
        process_started = []

        def reached(done=done, moment=moment, started=process_started):
            """Some time after the first new checkpoint."""
            if len(run.steps()) and max(run.steps()) > done:
                started.append(time.monotonic())
            return started and time.monotonic() - started[0] >= moment

        if done >= 30:
            break
        run.kill_when(reached)
    run.finish()
    assert files_of(run.output / "bundle") == undisturbed
