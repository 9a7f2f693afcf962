"""Runs that were killed end as they would have."""

import io
import json

import pytest
import torch
from rich.console import Console

from propetl.errors import ConfigurationError
from propetl.training import checkpoints as checkpoints_module
from propetl.training import fit as fit_module
from propetl.training import trainer as trainer_module
from propetl.training.run import train
from tests.propetl.training.conftest import HYBRID, Killed, files_of, kill, small_config

INTERRUPTED = {"max_steps": 11, "eval_every": 3, "save_every": 2, "batch_size": 10, "dropout": 0.2}


@pytest.fixture(scope="module")
def undisturbed(backbone_folder, data_folder, tmp_path_factory):
    """What an interrupted run has to come to."""
    output = tmp_path_factory.mktemp("undisturbed") / "run"
    places = {"backbone": backbone_folder, "data": data_folder, "output": output}
    torch.set_num_threads(1)
    (result,) = train(small_config(places, **INTERRUPTED))
    return result


def test_a_run_that_has_ended_is_left_as_it_is(make_config):
    config = make_config()
    (first,) = train(config)
    before = files_of(config.output)
    console = Console(file=io.StringIO(), width=100)
    (again,) = train(config, resume=True, console=console)
    assert "has ended already" in console.file.getvalue()
    assert again.finished_before
    assert (again.scores, again.bundle, again.best_step) == (first.scores, first.bundle, first.best_step)
    assert files_of(config.output) == before


def test_without_resume_it_is_refused(make_config):
    config = make_config()
    train(config)
    before = files_of(config.output)
    with pytest.raises(ConfigurationError, match="exists already"):
        train(config)
    assert files_of(config.output) == before


def test_overwriting(make_config):
    train(make_config(seed=1))
    before = files_of(make_config().output / "bundle")
    train(make_config(seed=2), overwrite=True)
    assert files_of(make_config().output / "bundle") != before


def killed_and_resumed(config, monkeypatch, module, name, call, before):
    """Result of a run that was killed at a call of ``name``, before what it does or after, and gone on with."""
    calls, real = [], getattr(module, name)

    def killing(*arguments, **keywords):
        calls.append(name)
        if before and len(calls) == call:
            raise Killed
        result = real(*arguments, **keywords)
        if len(calls) == call:
            raise Killed
        return result

    with monkeypatch.context() as patch:
        patch.setattr(module, name, killing)
        with pytest.raises(Killed):
            train(config)
    (resumed,) = train(config, resume=True)
    return resumed


@pytest.mark.parametrize(
    ("module", "name", "call"),
    [
        (trainer_module, "save", 1),
        (trainer_module, "save", 3),
        (checkpoints_module, "mark_complete", 1),
        (checkpoints_module, "mark_complete", 4),
        (trainer_module, "write_checkpoint", 2),
        (trainer_module, "rotate", 2),
        (trainer_module, "evaluate_tasks", 2),
        (fit_module, "at_step", 1),
        (fit_module, "report_json", 1),
    ],
)
@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
def test_killed_anywhere_it_ends_as_undisturbed(make_config, undisturbed, monkeypatch, module, name, call, before):
    """Dropout is on, and the kill hits within an epoch, at its end, and while writing."""
    config = make_config(**INTERRUPTED)
    resumed = killed_and_resumed(config, monkeypatch, module, name, call, before)
    assert files_of(resumed.bundle) == files_of(undisturbed.bundle)
    assert resumed.scores == undisturbed.scores
    assert _losses(resumed) == _losses(undisturbed)


@pytest.mark.parametrize(("module", "name"), [(trainer_module, "evaluate_tasks"), (trainer_module, "rotate")])
def test_hybrid_masks_at_a_temperature_go_on_as_undisturbed(make_config, tmp_path, monkeypatch, module, name):
    options = {**INTERRUPTED, **HYBRID}
    (undisturbed,) = train(make_config(**options, output=str(tmp_path / "undisturbed")))
    resumed = killed_and_resumed(make_config(**options), monkeypatch, module, name, call=2, before=True)
    assert files_of(resumed.bundle) == files_of(undisturbed.bundle)
    assert _losses(resumed) == _losses(undisturbed)


def test_early_stopping_counts_over_the_kill(make_config, tmp_path, monkeypatch):
    options = {
        "max_steps": 12,
        "eval_every": 1,
        "early_stopping_patience": 2,
        "learning_rate": 1e-9,
        "score_learning_rate": 1e-9,
    }
    (undisturbed,) = train(make_config(**options, output=str(tmp_path / "undisturbed")))
    assert undisturbed.steps == 3
    config = make_config(**options)
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "best_evaluation", kill)
        with pytest.raises(Killed):
            train(config)
    (resumed,) = train(config, resume=True)
    assert (resumed.steps, resumed.best_step) == (3, 3)  # equal scores: the newest is kept, and none is progress


def test_a_lost_best_checkpoint_is_named(make_config, monkeypatch):
    config = make_config()
    with monkeypatch.context() as patch:
        patch.setattr(fit_module, "best_evaluation", kill)
        with pytest.raises(Killed):
            train(config)
    monkeypatch.setattr(fit_module, "best_evaluation", lambda state: {"step": 1})
    with pytest.raises(ConfigurationError, match="checkpoint-1 is missing or damaged"):
        train(config, resume=True)


def _losses(result):
    entries = [json.loads(line) for line in (result.output / "log.jsonl").read_text().splitlines()]
    return [(entry["step"], entry["loss"]) for entry in entries if "loss" in entry]
