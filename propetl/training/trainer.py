"""transformers' Trainer with two learning rates, one task per batch and small checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import asdict
from io import BytesIO
from pathlib import Path
from typing import Any, NoReturn, cast

import numpy as np
import torch
from safetensors.torch import load_file, save
from torch import Tensor, nn
from transformers import (
    PrinterCallback,
    Trainer,
    TrainerCallback,
    TrainerControl,
    TrainerState,
    TrainingArguments,
)
from transformers.trainer import OPTIMIZER_NAME, SCALER_NAME, SCHEDULER_NAME

from propetl.errors import Interrupted
from propetl.files import json_bytes
from propetl.model import ProPETLModel
from propetl.training.checkpoints import STATE, WEIGHTS, rotate, write_checkpoint
from propetl.training.config import TrainConfig
from propetl.training.evaluate import AVERAGE, Asked, BrokenOff, eval_log, evaluate_tasks
from propetl.training.loader import EpochLoader, Part, joint_loader, loss_divisors
from propetl.training.optimizer import parameter_groups
from propetl.training.processes import Processes
from propetl.training.progress import evaluation_is_due, stopped_early
from propetl.training.tasks import Batch, TrainingTask


class Trained(nn.Module):
    """The model without its ``config``, which the Trainer would take for that of a transformers model."""

    accepts_loss_kwargs = False  # what a loss is divided by comes with the batch

    def __init__(self, network: ProPETLModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, **batch: Any) -> Any:
        """``ProPETLModel.forward``."""
        return self.network(**batch)

    def generate(self, task: str, inputs: Mapping[str, Tensor]) -> Tensor:
        """``ProPETLModel.generate``."""
        return self.network.generate(task, inputs)


class ProPETLTrainer(Trainer):
    """Trains a :class:`ProPETLModel` on several tasks.

    Differences to the Trainer it builds on:

    * scores have a learning rate of their own and no weight decay: only the order of their sizes matters, and
      decay would shrink all of them alike;
    * batches come from :class:`TaskBatchSampler` and are dealt out to the processes; a batch is computed in shards,
      so that one process does the sums that several do;
    * the loss of a step is that of :func:`propetl.training.loader.loss_divisors`, however the step is split into
      shards, processes and accumulated batches;
    * a checkpoint holds trainable tensors only, is whole or absent, and is written at every new best;
    * evaluation gives every task's metrics, and the best step is that of the best mean of the main ones, of equal ones
      the newest;
    * where it is asked to, it saves a checkpoint and raises :class:`Interrupted`, between two steps or two batches of
      an evaluation, which is then made up for when the run goes on.
    """

    def __init__(
        self,
        model: ProPETLModel,
        args: TrainingArguments,
        folder: Path,
        tasks: Sequence[TrainingTask],
        config: TrainConfig,
        processes: Processes,
        callbacks: Sequence[TrainerCallback],
        asked: Asked = lambda: 0,
    ) -> None:
        """``folder`` is where checkpoints go, as ``args`` say; ``asked`` is 0 or the signal that ends the run."""
        self.folder = folder
        self.tasks = tuple(tasks)
        self.config = config
        self.processes = processes
        self.network = model
        self.trained = Trained(model)
        self._asked = asked
        self._saved_step = 0
        self._divisors: dict[str, float] = {}
        self._step = -1
        self._batch_of_step = 0
        dev = {task.spec.name: task.dev for task in self.tasks}
        super().__init__(model=self.trained, args=args, eval_dataset=cast(Any, dev), callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)
        self.add_callback(_Begin(self))

    def get_train_dataloader(self) -> EpochLoader:
        """Loader of this process's part of every batch; Accelerate has nothing to do about it."""
        return joint_loader(self.tasks, self.config, self.processes)

    def get_batch_samples(self, epoch_iterator: Iterator[Part], num_batches: int, device: Any) -> tuple[Any, None]:
        """The batches of one optimizer step: before the first is computed, all have to be there to be counted."""
        number = self.processes.largest(self._asked())
        if number:
            self._stop(number)
        if self.control.should_training_stop:  # since the run has begun
            return [], None
        parts, _ = super().get_batch_samples(epoch_iterator, num_batches, device)
        self._divisors = loss_divisors(parts)
        return parts, None

    def training_step(self, model: nn.Module, inputs: Part, num_items_in_batch: Any = None) -> Tensor:
        """Adds up the gradients of this process's shards of one batch; returns their share of the step's loss.

        Each shard has dropout of its own, drawn from seed, step and shard alone, and gradients are exchanged
        once, after the last one.
        """
        model.train()
        # Processes are averaged, both their gradients and their logged losses.
        divisor = self._divisors[inputs["task"]] / self.processes.count
        shards = cast(list[Batch], self._prepare_inputs(inputs)["shards"])
        losses = [self._shard_step(model, shard, place, len(shards), divisor) for place, shard in enumerate(shards)]
        self._batch_of_step = self._place_in_step() + 1
        return torch.stack(losses).sum()

    def _shard_step(self, model: nn.Module, shard: Batch, place: int, count: int, divisor: float) -> Tensor:
        torch.manual_seed(self._dropout_seed(place, count))
        exchange = nullcontext() if place == count - 1 else self.accelerator.no_sync(model)
        with exchange:
            with self.compute_loss_context_manager():
                loss = cast(Tensor, self.compute_loss(model, {**shard, "divisor": divisor}))
            self.accelerator.backward(loss)
        return loss.detach()

    def _dropout_seed(self, place: int, count: int) -> int:
        shard = self.processes.index * count + place
        stream = [self.config.seed, self.state.global_step, self._place_in_step(), shard]
        return int(np.random.SeedSequence(stream).generate_state(1, np.uint64)[0])

    def _place_in_step(self) -> int:
        """Which of the batches accumulated for one optimizer step this is."""
        if self._step != self.state.global_step:
            self._step, self._batch_of_step = self.state.global_step, 0
        return self._batch_of_step

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW over three groups: decayed and plain parameters at one rate, scores at another."""
        if self.optimizer is None:
            config = self.config
            groups = parameter_groups(self.network, config.rate, config.score_rate, config.weight_decay)
            self.optimizer = torch.optim.AdamW(groups, lr=config.rate)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Metrics of every task, logged as ``eval_<task>_<metric>`` and ``eval_average``."""
        batch_size = self.config.eval_batch_size
        try:
            scores = evaluate_tasks(self.trained, self.tasks, batch_size, self.processes, self._asked)
        except BrokenOff:
            self._stop(self.processes.largest(self._asked()))
        metrics = eval_log(scores, self.tasks)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Saves whenever no step before was better; stops when patience has run out."""
        average = metrics[AVERAGE]
        is_best = self.state.best_metric is None or average >= self.state.best_metric
        if is_best:  # of equal ones, the newest has been trained longest
            self.state.best_metric, self.state.best_global_step = average, self.state.global_step
        stop = stopped_early(self.state.log_history, self.config.early_stopping_patience)
        self.control.should_save |= is_best or stop
        self.control.should_training_stop |= stop
        return is_best

    def begin(self) -> None:
        """Makes up for an evaluation that the run was stopped in."""
        step = self._saved_step = self.state.global_step
        if evaluation_is_due(self.state.log_history, step, self.state.max_steps, int(self.state.eval_steps)):
            self._determine_best_metric(self.evaluate(), None)
            self._save_checkpoint(self.model, None)
            self.control.should_save = False
        # The Trainer looks at both only after one more step.
        self.control.should_training_stop |= step >= self.state.max_steps

    def _stop(self, number: int) -> NoReturn:
        """Ends the run after the steps that are done, in all processes."""
        if self.state.global_step > self._saved_step:
            self._save_checkpoint(self.model, None)
        raise Interrupted(number)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Writes what this run goes on from, then removes the checkpoints that are no longer needed.

        Dropout is drawn from seed, step and shard, so that no state of random numbers is part of it.
        """
        self.processes.on_first(self._write_checkpoint)
        self._saved_step = self.state.global_step

    def _write_checkpoint(self) -> None:
        step = self.state.global_step
        write_checkpoint(self.folder, step, self._checkpoint_files())
        rotate(self.folder, keep={step, self.state.best_global_step or 0})

    def _checkpoint_files(self) -> Iterator[tuple[str, bytes]]:
        """Trainable tensors only: the backbone is where it was."""
        trainable = self.network.trainable_state()
        yield WEIGHTS, save({name: tensor.cpu().contiguous() for name, tensor in trainable.items()})
        yield OPTIMIZER_NAME, _torch_bytes(cast(Any, self.optimizer).state_dict())
        yield SCHEDULER_NAME, _torch_bytes(cast(Any, self.lr_scheduler).state_dict())
        if self.accelerator.scaler is not None:
            yield SCALER_NAME, _torch_bytes(self.accelerator.scaler.state_dict())
        yield STATE, json_bytes(asdict(self.state))

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.network.load_trainable_state(load_file(Path(resume_from_checkpoint) / WEIGHTS))


class _Begin(TrainerCallback):
    """Called last of all when training begins, with what a checkpoint held in place."""

    def __init__(self, trainer: ProPETLTrainer) -> None:
        self._trainer = trainer

    def on_train_begin(
        self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any
    ) -> TrainerControl:
        """Its outcome may end the run."""
        self._trainer.begin()
        return self._trainer.control


def _torch_bytes(value: Any) -> bytes:
    buffer = BytesIO()
    torch.save(value, buffer)
    return buffer.getvalue()
