"""One call from a configuration to a bundle: joint, one task at a time, or added to a bundle."""

import time
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path

import torch
from rich.console import Console
from safetensors.torch import load_file
from transformers.utils import logging as transformers_logging

from propetl.bundle import read_bundle
from propetl.data.known import specs_of
from propetl.data.metrics import check_metrics
from propetl.errors import ConfigurationError
from propetl.extras import check_installed
from propetl.model import ProPETLModel
from propetl.training.arguments import processes_of, training_arguments
from propetl.training.checkpoints import WEIGHTS, at_step
from propetl.training.conditions import conditions_of
from propetl.training.config import TrainConfig
from propetl.training.evaluate import AVERAGE, scores_in_log
from propetl.training.folder import RunFolder, check, prepare
from propetl.training.loader import joint_sampler
from propetl.training.logs import ProgressDisplay, RunLog
from propetl.training.processes import Processes
from propetl.training.progress import best_evaluation, is_done
from propetl.training.report import print_report, report_json
from propetl.training.result import RunResult, result_from_report
from propetl.training.schedule import schedule_of
from propetl.training.target import AddedTask, NewBundle, Target
from propetl.training.tasks import TrainingTask, load_tasks, tokenizer_of
from propetl.training.trainer import ProPETLTrainer

SAMPLES = 8
"""Development rows per task that a bundle carries, for golden outputs."""


@dataclass(frozen=True)
class Manner:
    """How a run goes about its folder, its processes and the screen."""

    resume: bool
    overwrite: bool
    processes: Processes
    console: Console


def train(
    config: TrainConfig,
    *,
    resume: bool = False,
    overwrite: bool = False,
    separate: bool = False,
    add_to: Path | None = None,
    console: Console | None = None,
) -> list[RunResult]:
    """Trains what ``config`` describes.

    Args:
        config: the run.
        resume: go on from the newest complete checkpoint; a run that has ended is left as it is.
        overwrite: replace a run folder that is there.
        separate: train every task alone, in ``OUTPUT/<task>``, with a prototype and bundle of its own.
        add_to: learn masks and head of one more task over this bundle's frozen prototype, and add its pack.
        console: where progress goes; silent if None.

    Returns:
        One result; with ``separate`` one per task.

    Raises:
        ConfigurationError: the configuration, the data or the run folder cannot be used.
    """
    if resume and overwrite:
        raise ConfigurationError("--resume and --overwrite: give one of them; a run is either continued or replaced")
    if separate and add_to is not None:
        raise ConfigurationError("--separate and --add-to: give one of them")
    transformers_logging.disable_progress_bar()
    check_metrics(metric for spec in specs_of(config.tasks).values() for metric in spec.metrics)
    if config.tensorboard:
        check_installed("tensorboard: true", "tensorboard", "train")
    if config.threads is not None:
        torch.set_num_threads(config.threads)
    processes = processes_of(config)
    shown = console if console is not None and processes.first else Console(quiet=True)
    manner = Manner(resume, overwrite, processes, shown)
    return list(_runs(config, manner, separate, add_to))


def _runs(config: TrainConfig, manner: Manner, separate: bool, add_to: Path | None) -> Iterator[RunResult]:
    if add_to is not None:
        fresh = not (manner.resume and config.output.exists())
        yield _run(AddedTask(config, add_to, fresh=fresh), manner)
    elif separate:
        targets = [NewBundle(alone) for alone in _one_by_one(config)]
        for target in targets:  # all of them before the first trains
            manner.processes.on_first(lambda: _check(target, manner))  # noqa: B023  # called at once
        for target in targets:
            manner.console.rule(next(iter(target.config.tasks)))
            yield _run(target, manner)
    else:
        yield _run(NewBundle(config), manner)


def _one_by_one(config: TrainConfig) -> Iterator[TrainConfig]:
    for task, definition in config.tasks.items():
        yield config.model_copy(update={"tasks": {task: definition}, "output": config.output / task})


def _check(target: Target, manner: Manner) -> RunFolder:
    return check(target.config, target.identity, resume=manner.resume, overwrite=manner.overwrite)


def _run(target: Target, manner: Manner) -> RunResult:
    folder = manner.processes.on_first(lambda: _check(target, manner))
    report = manner.processes.on_first(folder.report) if manner.resume else None
    if report is not None:
        result = result_from_report(folder.path, report)
        manner.console.print(f"{folder.path} has ended already: nothing to do")
    else:
        result = _trained(target, folder, manner)
    if manner.processes.first:
        print_report(manner.console, result, read_bundle(result.bundle))
    return result


def _trained(target: Target, folder: RunFolder, manner: Manner) -> RunResult:
    config = target.config
    backbone = target.load_backbone()
    tasks = load_tasks(config, tokenizer_of(backbone), backbone.family.kind)
    model = target.model(backbone, tasks)
    if config.dropout is not None:
        model.set_dropout(config.dropout)
    model.label_smoothing = config.label_smoothing
    with ExitStack() as stack:
        manner.processes.on_first(lambda: _open(stack, target, folder, manner))
        started = time.monotonic()
        _fit(model, tasks, config, folder, manner)
        seconds = time.monotonic() - started
        return manner.processes.on_first(lambda: _finish(target, model, tasks, folder, manner, seconds))


def _open(stack: ExitStack, target: Target, folder: RunFolder, manner: Manner) -> None:
    stack.enter_context(folder.lock())
    prepare(folder, target.config, target.identity, overwrite=manner.overwrite)


def _fit(
    model: ProPETLModel, tasks: list[TrainingTask], config: TrainConfig, folder: RunFolder, manner: Manner
) -> None:
    """Trains to the end, from the newest checkpoint if there is one."""
    schedule = schedule_of(config, len(joint_sampler(tasks, config)))
    newest = manner.processes.on_first(folder.newest_checkpoint)
    if newest and is_done(newest.state(), schedule.max_steps, config.early_stopping_patience):
        return
    arguments = training_arguments(config, schedule, folder.checkpoints, manner.processes)
    display = ProgressDisplay(manner.console)
    log = RunLog(folder.log, folder.tensorboard if config.tensorboard else None)
    callbacks = [log, display] if manner.processes.first else []
    trainer = ProPETLTrainer(model, arguments, folder.checkpoints, tasks, config, manner.processes, callbacks)
    try:
        trainer.train(resume_from_checkpoint=str(newest.path) if newest else None)
    finally:
        display.close()


def _finish(
    target: Target,
    model: ProPETLModel,
    tasks: list[TrainingTask],
    folder: RunFolder,
    manner: Manner,
    seconds: float,
) -> RunResult:
    """Writes the best checkpoint's masks as a bundle, then the report that says that the run has ended."""
    newest = folder.newest_checkpoint()
    assert newest is not None  # the last step is always saved
    state = newest.state()
    best = best_evaluation(state)
    model.load_trainable_state(load_file(at_step(folder.checkpoints, best["step"]).path / WEIGHTS))
    scores = scores_in_log(best, tasks)
    samples = {task.spec.name: task.samples(SAMPLES) for task in tasks}
    bundle = target.write(model, folder, samples, scores)
    result = RunResult(folder.path, bundle, scores, best[AVERAGE], newest.step, best["step"])
    conditions = conditions_of(target.config, tasks, manner.processes, seconds)
    folder.finish(report_json(result, conditions, read_bundle(bundle)))
    return result
