"""One call from a configuration to a bundle: joint, one task at a time, or added to a bundle."""

import errno
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from signal import Signals

import torch
from rich.console import Console
from transformers.utils import logging as transformers_logging

from propetl.bundle import read_bundle
from propetl.data.known import specs_of
from propetl.data.metrics import check_metrics
from propetl.errors import ConfigurationError, Interrupted
from propetl.extras import check_installed
from propetl.training.arguments import processes_of
from propetl.training.config import TrainConfig
from propetl.training.fit import Manner, check_rows, checked_folder, fit, take_shards
from propetl.training.folder import RunFolder
from propetl.training.interrupts import Interrupts
from propetl.training.report import print_report
from propetl.training.result import RunResult, result_from_report
from propetl.training.target import AddedTask, NewBundle, Target


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
        Interrupted: Ctrl-C, SIGTERM or SIGHUP came; in the main thread, steps that are done have been saved before.
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
    with Interrupts(shown) as interrupts:
        manner = Manner(resume, overwrite, processes, shown, interrupts)
        return list(_runs(config, manner, separate, add_to))


def _runs(config: TrainConfig, manner: Manner, separate: bool, add_to: Path | None) -> Iterator[RunResult]:
    if add_to is not None:
        fresh = not (manner.resume and config.output.exists())
        yield _run(AddedTask(config, add_to, fresh=fresh), manner)
    elif separate:
        targets = [NewBundle(alone) for alone in _one_by_one(config)]
        for target in targets:  # all of them before the first trains
            folder = _checked(target, manner)
            if manner.resume and manner.processes.on_first(folder.holds_run):
                manner.processes.on_first(partial(check_rows, target, folder, manner))
        for target in targets:
            manner.console.rule(next(iter(target.config.tasks)))
            yield _run(target, manner)
    else:
        yield _run(NewBundle(config), manner)


def _one_by_one(config: TrainConfig) -> Iterator[TrainConfig]:
    for task, definition in config.tasks.items():
        yield config.model_copy(update={"tasks": {task: definition}, "output": config.output / task})


def _checked(target: Target, manner: Manner) -> RunFolder:
    folder = manner.processes.on_first(lambda: checked_folder(target, manner))
    if manner.resume:
        take_shards(target, folder, manner.processes)
    return folder


def _run(target: Target, manner: Manner) -> RunResult:
    try:
        return _whole_run(target, manner)
    except Interrupted as stopped:
        raise _told(stopped.number, target.config.output) from stopped
    except OSError as error:
        if error.errno not in (errno.ENOSPC, errno.EDQUOT):
            raise
        where = error.filename or target.config.output
        raise ConfigurationError(f"no space left on the disk for {where}: free some and go on with --resume") from error


def _told(number: int, path: Path) -> Interrupted:
    """With what is saved of the run in ``path``, and how to go on."""
    what, newest = f"interrupted ({Signals(number).name})", RunFolder(path).newest_checkpoint()
    if newest is None:
        return Interrupted(number, f"{what} before a step of {path} was done: there was nothing to save")
    return Interrupted(number, f"{what}: {path} is saved up to step {newest.step}", "go on with --resume")


def _whole_run(target: Target, manner: Manner) -> RunResult:
    folder = _checked(target, manner)
    report = manner.processes.on_first(folder.report) if manner.resume else None
    if report is not None:
        manner.processes.on_first(lambda: check_rows(target, folder, manner))
        result = result_from_report(folder.path, report)
        manner.console.print(f"{folder.path} has ended already: nothing to do")
    else:
        result = fit(target, folder, manner)
    if manner.processes.first:
        print_report(manner.console, result, read_bundle(result.bundle))
    return result
