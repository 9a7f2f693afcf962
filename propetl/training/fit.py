"""One run from its rows to its bundle."""

import time
from contextlib import ExitStack, closing
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from safetensors.torch import load_file

from propetl.backbone import Backbone
from propetl.bundle import read_bundle
from propetl.errors import ConfigurationError, Interrupted
from propetl.lengths import check_lengths
from propetl.model import ProPETLModel
from propetl.training.arguments import check_shards, training_arguments
from propetl.training.checkpoints import WEIGHTS, at_step
from propetl.training.conditions import conditions_of
from propetl.training.evaluate import AVERAGE, scores_in_log
from propetl.training.folder import RunFolder, check, prepare
from propetl.training.inputs import Inputs, fingerprints_of_backbone, fingerprints_of_rows
from propetl.training.interrupts import Interrupts
from propetl.training.loader import shards_of
from propetl.training.logs import ProgressDisplay, RunLog
from propetl.training.processes import Processes
from propetl.training.progress import best_evaluation, is_done
from propetl.training.report import report_json
from propetl.training.result import RunResult
from propetl.training.same_run import recorded_shards, refuse_other_inputs
from propetl.training.sampler import batches_by_task
from propetl.training.schedule import Schedule, schedule_of
from propetl.training.settled import settled
from propetl.training.target import Target
from propetl.training.tasks import TaskRows, TrainingTask, encode_tasks, notes_of, read_rows, tokenizer_of
from propetl.training.trainer import ProPETLTrainer
from propetl.training.truncation import truncation_json, truncation_lines

SAMPLES = 8
"""Development rows per task that a bundle carries, for golden outputs."""


@dataclass(frozen=True)
class Manner:
    """How a run goes about its folder, its processes and the screen."""

    resume: bool
    overwrite: bool
    processes: Processes
    console: Console
    interrupts: Interrupts


@dataclass(frozen=True)
class Plan:
    """A run before anything is written.

    Attributes:
        target: what is trained, with the run's configuration.
        folder: of the run.
        schedule: its steps.
        inputs: fingerprints of what it learns from.
    """

    target: Target
    folder: RunFolder
    schedule: Schedule
    inputs: Inputs

    def settings(self, processes: Processes) -> dict[str, Any]:
        """The configuration with every default."""
        config = self.target.config
        return settled(config, self.schedule, shards_of(config, processes))


def checked_folder(target: Target, manner: Manner) -> RunFolder:
    """The folder of the run, if the run may use it, as far as can be told before any row is read.

    Raises:
        ConfigurationError: it may not.
    """
    return check(target.config, target.identity, resume=manner.resume, overwrite=manner.overwrite)


def check_rows(target: Target, folder: RunFolder, manner: Manner) -> None:
    """Refuses to take what is in ``folder`` for a run with the rows that there are now; loads no backbone.

    Raises:
        ConfigurationError: the run was made with other rows or settings.
        DataError: the rows cannot be read.
    """
    plan = _plan(target, folder, read_rows(target.config), None)
    refuse_other_inputs(folder.path, plan.settings(manner.processes), plan.inputs)


def take_shards(target: Target, folder: RunFolder, processes: Processes) -> None:
    """A run goes on in as many shards as it began with, whatever it computes on now.

    Raises:
        ConfigurationError: these processes cannot share them out.
    """
    if target.config.shards is not None:
        return
    shards = processes.on_first(lambda: recorded_shards(folder.path) if folder.holds_run() else None)
    target.config = target.config.model_copy(update={"shards": shards})
    check_shards(target.config, processes.count)


def fit(target: Target, folder: RunFolder, manner: Manner) -> RunResult:
    """Trains ``target`` in ``folder`` and writes its bundle.

    Raises:
        ConfigurationError: rows or backbone are not those that the run was started with, or training diverged.
        DataError: a row cannot be used.
    """
    processes = manner.processes
    backbone = target.load_backbone()
    check_lengths(backbone, target.config.max_length, {})
    rows = read_rows(target.config)
    for note in notes_of(rows):
        manner.console.print(note, markup=False, highlight=False, soft_wrap=True)
    plan = _plan(target, folder, rows, backbone)
    _refuse_unequal(plan.inputs, processes)
    processes.on_first(lambda: _refuse_others(plan, manner))
    tasks = encode_tasks(target.config, rows, tokenizer_of(backbone), backbone.family.kind)
    check_lengths(backbone, target.config.max_length, {task.spec.name: task.spec.text for task in tasks})
    for line in truncation_lines(tasks, target.config.max_length):
        manner.console.print(line, soft_wrap=True, highlight=False)
    model = _model(target, backbone, tasks)
    with ExitStack() as stack:
        processes.on_first(lambda: _open(stack, plan, manner))
        started = time.monotonic()
        _train(model, tasks, plan, manner)
        seconds = time.monotonic() - started
        return processes.on_first(lambda: _finish(model, tasks, plan, manner, seconds))


def _plan(target: Target, folder: RunFolder, rows: dict[str, TaskRows], backbone: Backbone | None) -> Plan:
    config = target.config
    batches = batches_by_task([len(both.train) for both in rows.values()], config.batch_size, config.temperature)
    inputs = {**target.identity, "data": fingerprints_of_rows(rows)}
    if backbone is not None:
        inputs["backbone"] = fingerprints_of_backbone(backbone)
    return Plan(target, folder, schedule_of(config, sum(batches)), inputs)


def _refuse_unequal(inputs: Inputs, processes: Processes) -> None:
    """Each process reads rows and backbone by itself, perhaps on a machine of its own."""
    if any(other != inputs for other in processes.gather(inputs)):
        raise ConfigurationError("the processes of this run read different rows or backbones; give them all the same")


def _model(target: Target, backbone: Backbone, tasks: list[TrainingTask]) -> ProPETLModel:
    model = target.model(backbone, tasks)
    if target.config.dropout is not None:
        model.set_dropout(target.config.dropout)
    model.label_smoothing = target.config.label_smoothing
    return model


def _open(stack: ExitStack, plan: Plan, manner: Manner) -> None:
    """Takes the folder; what was checked before is checked again now that no other run can change it."""
    stack.enter_context(plan.folder.lock())
    checked_folder(plan.target, manner)
    _refuse_others(plan, manner)
    prepare(plan.folder, plan.settings(manner.processes), plan.inputs, overwrite=manner.overwrite)


def _refuse_others(plan: Plan, manner: Manner) -> None:
    """Before rows are tokenised, which may take minutes, and once more when the folder is held."""
    if manner.resume and plan.folder.holds_run():
        refuse_other_inputs(plan.folder.path, plan.settings(manner.processes), plan.inputs)


def _train(model: ProPETLModel, tasks: list[TrainingTask], plan: Plan, manner: Manner) -> None:
    """Trains to the end, from the newest checkpoint if there is one."""
    config, folder = plan.target.config, plan.folder
    processes, interrupts = manner.processes, manner.interrupts
    newest = processes.on_first(folder.newest_checkpoint)
    if newest and is_done(newest.state(), plan.schedule, config.early_stopping_patience):
        return
    arguments = training_arguments(config, plan.schedule, folder.checkpoints, processes)
    display = ProgressDisplay(manner.console)
    first = {"truncation": truncation_json(tasks)}
    log = RunLog(folder.log, folder.tensorboard if config.tensorboard else None, processes, first)
    callbacks = [log, display] if processes.first else [log]

    def asked() -> int:
        return interrupts.asked

    trainer = ProPETLTrainer(model, arguments, folder.checkpoints, tasks, config, processes, callbacks, asked)
    with closing(display), interrupts.waiting():
        trainer.train(resume_from_checkpoint=str(newest.path) if newest else None)
        if number := processes.largest(interrupts.asked):  # in the last step
            raise Interrupted(number)


def _finish(
    model: ProPETLModel, tasks: list[TrainingTask], plan: Plan, manner: Manner, seconds: float
) -> RunResult:
    """Writes the best checkpoint's masks as a bundle, then the report that says that the run has ended."""
    folder = plan.folder
    newest = folder.newest_checkpoint()
    assert newest is not None  # the last step is always saved
    best = best_evaluation(newest.state())
    model.load_trainable_state(load_file(at_step(folder.checkpoints, best["step"]).path / WEIGHTS))
    scores = scores_in_log(best, tasks)
    samples = {task.spec.name: task.samples(SAMPLES) for task in tasks}
    bundle = plan.target.write(model, folder, samples, scores)
    result = RunResult(folder.path, bundle, scores, best[AVERAGE], newest.step, best["step"])
    conditions = conditions_of(plan.target.config, tasks, manner.processes, seconds)
    folder.finish(report_json(result, conditions, read_bundle(bundle)))
    return result
