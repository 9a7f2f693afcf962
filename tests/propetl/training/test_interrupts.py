"""Ctrl-C, SIGTERM and SIGHUP: a checkpoint is saved first, and what goes on from it ends as undisturbed."""

import io
import os
import signal
import subprocess
import sys
import threading
import time
from typing import Any

import pytest
import yaml
from rich.console import Console

from propetl.errors import Interrupted
from propetl.training import checkpoints as checkpoints_module
from propetl.training import evaluate as evaluate_module
from propetl.training import fit as fit_module
from propetl.training import target as target_module
from propetl.training.checkpoints import complete_checkpoints
from propetl.training.interrupts import Interrupts
from propetl.training.run import train
from propetl.training.trainer import ProPETLTrainer
from tests.device_env import ROOT
from tests.propetl.training.conftest import files_of, small_config

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OPTIONS = {"max_steps": 7, "eval_every": 3, "save_every": 5, "batch_size": 10, "dropout": 0.2, "threads": 1}
QUIET = Console(quiet=True)
PATIENCE_SECONDS = 120


@pytest.fixture(autouse=True)
def _handlers_stay():
    """Those of a terminal, before each test and after it: what runs in the background may be started to ignore some."""
    defaults = [signal.default_int_handler, signal.SIG_DFL, signal.SIG_DFL]
    before = [signal.signal(number, handler) for number, handler in zip(SIGNALS, defaults, strict=True)]
    yield
    found = [signal.signal(number, handler) for number, handler in zip(SIGNALS, before, strict=True)]
    assert found == defaults


@pytest.fixture(scope="module")
def undisturbed(backbone_folder, data_folder, tmp_path_factory):
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    (result,) = train(small_config({"backbone": backbone_folder, "data": data_folder, "output": output}, **OPTIONS))
    return result


def sent(number):
    os.kill(os.getpid(), number)


def sends(monkeypatch, module, name, call, number=signal.SIGTERM, times=1):
    """A signal comes while the function ``name`` of ``module`` is called for the ``call``-th time."""
    calls, real = [], getattr(module, name)

    def interrupted(*arguments, **keywords):
        calls.append(name)
        if len(calls) == call:
            for _ in range(times):
                sent(number)
        return real(*arguments, **keywords)

    monkeypatch.setattr(module, name, interrupted)


def stopped(config, **manner):
    with pytest.raises(Interrupted) as error:
        train(config, **manner)
    assert not (config.output / "train.json").exists()
    return error.value


def steps(config):
    return [checkpoint.step for checkpoint in complete_checkpoints(config.output / "checkpoints")]


@pytest.mark.parametrize(
    ("module", "name", "call", "saved"),
    [
        (ProPETLTrainer, "training_step", 1, [1]),
        (ProPETLTrainer, "training_step", 5, [3, 5]),
        (ProPETLTrainer, "training_step", 7, [7]),
        (evaluate_module, "_inputs", 1, [3]),
        (evaluate_module, "_inputs", 2, [3]),
        (evaluate_module, "compute", 2, [3]),
        (evaluate_module, "_inputs", 6, [7]),
        (checkpoints_module, "mark_complete", 1, [3]),
        (target_module, "write_bundle", 1, [7]),
    ],
)
def test_what_is_done_is_saved_and_goes_on_as_undisturbed(
    make_config, undisturbed, monkeypatch, module, name, call, saved
):
    """In a step, in an evaluation (also the last one), while a checkpoint or the bundle is written."""
    config = make_config(**OPTIONS)
    with monkeypatch.context() as patch:
        sends(patch, module, name, call)
        error = stopped(config)
    assert (error.number, error.exit_code) == (signal.SIGTERM, 143)
    assert str(error) == (
        f"interrupted (SIGTERM): {config.output} is saved up to step {saved[-1]}; go on with --resume"
    )
    assert set(steps(config)) >= {saved[-1]} and set(steps(config)) <= {3, 6, *saved}
    (resumed,) = train(config, resume=True)
    assert files_of(resumed.bundle) == files_of(undisturbed.bundle)
    assert (resumed.scores, resumed.best_step) == (undisturbed.scores, undisturbed.best_step)
    assert _evaluations(resumed) == _evaluations(undisturbed)


def _evaluations(result):
    """Lines of the log by step: what was broken off and made up for stands there once."""
    lines = (result.output / "log.jsonl").read_text().splitlines()
    return [line.partition('"time"')[0] for line in lines if "eval_average" in line]


@pytest.mark.parametrize("name", ["read_rows", "encode_tasks"])
@pytest.mark.parametrize("number", SIGNALS)
def test_before_training_there_is_nothing_to_save(make_config, monkeypatch, name, number):
    config = make_config(**OPTIONS)
    sends(monkeypatch, fit_module, name, 1, number)
    error = stopped(config)
    assert error.exit_code == 128 + number
    assert str(error).endswith("before a step of " + f"{config.output} was done: there was nothing to save")
    assert not config.output.exists()


def test_a_second_ctrl_c_ends_at_once(make_config, monkeypatch):
    config = make_config(**OPTIONS)
    sends(monkeypatch, ProPETLTrainer, "training_step", 2, signal.SIGINT, times=2)
    assert "nothing to save" in str(stopped(config))
    assert steps(config) == []


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP])
def test_other_signals_may_come_twice(make_config, monkeypatch, number):
    """A scheduler sends them to every process of a run, and torchrun sends them on."""
    config = make_config(**OPTIONS)
    sends(monkeypatch, ProPETLTrainer, "training_step", 2, number, times=3)
    stopped(config)
    assert steps(config) == [2]


def test_of_tasks_trained_alone_the_next_does_not_begin(make_config, monkeypatch):
    config = make_config(**OPTIONS)
    with monkeypatch.context() as patch:
        sends(patch, ProPETLTrainer, "training_step", 4)
        error = stopped(config, separate=True)
    assert f"{config.output / 'mood'} is saved up to step 4" in str(error)
    assert not (config.output / "topic").exists()
    assert [result.steps for result in train(config, separate=True, resume=True)] == [7, 7]


def test_stopped_and_out_of_patience_it_takes_no_further_step(make_config, tmp_path, monkeypatch):
    """The evaluation that ends a run is made up for when it goes on."""
    options: dict[str, Any] = {"max_steps": 9, "eval_every": 1, "early_stopping_patience": 1, "save_every": 9}
    options |= {"learning_rate": 1e-9, "score_learning_rate": 1e-9}
    (whole,) = train(make_config(**options, output=str(tmp_path / "whole")))
    assert whole.steps == 2
    config = make_config(**options)
    with monkeypatch.context() as patch:
        sends(patch, evaluate_module, "_inputs", 3)
        stopped(config)
    assert steps(config) == [1, 2]
    (resumed,) = train(config, resume=True)
    assert (resumed.steps, resumed.best_step) == (2, 2)
    assert files_of(resumed.bundle) == files_of(whole.bundle)


def test_outside_the_main_thread_nothing_is_installed():
    found = []

    def enter():
        with Interrupts(QUIET):
            found.extend(signal.getsignal(number) for number in SIGNALS)

    thread = threading.Thread(target=enter)
    thread.start()
    thread.join()
    assert found == [signal.getsignal(number) for number in SIGNALS]


def test_a_signal_that_is_ignored_stays_so():
    signal.signal(signal.SIGHUP, signal.SIG_IGN)
    with Interrupts(QUIET):
        assert signal.getsignal(signal.SIGHUP) == signal.SIG_IGN
        sent(signal.SIGHUP)
    signal.signal(signal.SIGHUP, signal.SIG_DFL)


def test_a_signal_that_nobody_asked_for_is_not_lost():
    with Interrupts(QUIET) as interrupts:
        waiting = interrupts.waiting()
        waiting.__enter__()
        sent(signal.SIGTERM)
        assert interrupts.asked == signal.SIGTERM
        with pytest.raises(Interrupted):
            waiting.__exit__(None, None, None)


def test_a_lost_terminal_is_not_written_to():
    console = Console(file=io.StringIO())
    with Interrupts(console), pytest.raises(Interrupted):
        sent(signal.SIGHUP)
    console.print("step 3")
    assert console.file.getvalue() == ""


def _started(config, folder, *launcher):
    path = folder / "config.yaml"
    path.write_text(yaml.safe_dump(config.to_json()))
    command = [sys.executable, *launcher, "-m", "propetl", "train", path, "--resume"]
    environment = {**os.environ, "OMP_NUM_THREADS": "1"}
    return subprocess.Popen(
        command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
    )


def _interrupted(config, folder, number, *launcher):
    """The end of a process that got a signal once it had logged a step."""
    process = _started(config, folder, *launcher)
    log, deadline = config.output / "log.jsonl", time.monotonic() + PATIENCE_SECONDS
    while not (log.exists() and "loss" in log.read_text()):
        assert process.poll() is None and time.monotonic() < deadline, process.communicate()
        time.sleep(0.01)
    process.send_signal(number)
    _, errors = process.communicate(timeout=PATIENCE_SECONDS)
    return process.returncode, errors


LONG = {**OPTIONS, "max_steps": 60, "eval_every": 20, "save_every": 60}


@pytest.mark.slow
@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_the_command_says_how_to_go_on(make_config, tmp_path, number):
    config = make_config(**LONG)
    code, errors = _interrupted(config, tmp_path, number)
    assert code == 128 + number
    *lines, last = errors.splitlines()
    assert "stopping: a checkpoint is saved first; Ctrl-C again ends at once" in lines
    assert last == (
        f"propetl: interrupted ({number.name}): {config.output} is saved up to step {steps(config)[-1]}; "
        "go on with --resume"
    )


@pytest.mark.slow
def test_several_processes_stop_at_the_same_step(make_config, tmp_path):
    """torchrun sends SIGTERM on to all of them."""
    (alone,) = train(make_config(**LONG, output=str(tmp_path / "alone")))
    config = make_config(**LONG)
    launcher = ("-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2")
    code, errors = _interrupted(config, tmp_path, signal.SIGTERM, *launcher)
    assert code != 0
    assert errors.count(f"{config.output} is saved up to step {steps(config)[-1]}; go on with --resume") == 2, errors
    (resumed,) = train(config, resume=True)
    assert files_of(resumed.bundle) == files_of(alone.bundle)
