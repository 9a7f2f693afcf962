"""transformers' Trainer with two learning rates, one task per batch and small checkpoints."""

from collections.abc import Iterator, Mapping, Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import Any, cast

import numpy as np
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from propetl.model import ProPETLModel
from propetl.training.checkpoints import WEIGHTS, mark_complete, rotate
from propetl.training.config import TrainConfig
from propetl.training.evaluate import eval_log, evaluate_tasks
from propetl.training.loader import EpochLoader, Part, joint_loader, loss_divisors
from propetl.training.processes import Processes
from propetl.training.progress import stopped_early
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
    * a checkpoint holds trainable tensors only, is marked when complete, and is written at every new best;
    * evaluation gives every task's metrics, and the best step is that of the best mean of the main ones.
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
    ) -> None:
        """``folder`` is where checkpoints go, as ``args`` say."""
        self.folder = folder
        self.tasks = tuple(tasks)
        self.config = config
        self.processes = processes
        self.network = model
        self.trained = Trained(model)
        self._divisors: dict[str, float] = {}
        self._step = -1
        self._batch_of_step = 0
        dev = {task.spec.name: task.dev for task in self.tasks}
        super().__init__(model=self.trained, args=args, eval_dataset=cast(Any, dev), callbacks=list(callbacks))
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> EpochLoader:
        """Loader of this process's part of every batch; Accelerate has nothing to do about it."""
        return joint_loader(self.tasks, self.config, self.processes)

    def get_batch_samples(self, epoch_iterator: Iterator[Part], num_batches: int, device: Any) -> tuple[Any, None]:
        """The batches of one optimizer step: before the first is computed, all have to be there to be counted."""
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
            groups = parameter_groups(self.network, self.config)
            self.optimizer = torch.optim.AdamW(groups, lr=self.config.rate)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Metrics of every task, logged as ``eval_<task>_<metric>`` and ``eval_average``."""
        scores = evaluate_tasks(self.trained, self.tasks, self.config.eval_batch_size, self.processes)
        metrics = eval_log(scores, self.tasks)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Saves whenever there is a new best; stops when patience has run out."""
        is_best = super()._determine_best_metric(metrics, trial)
        stop = stopped_early(self.state.log_history, self.state.best_global_step, self.config.early_stopping_patience)
        self.control.should_save |= is_best or stop
        self.control.should_training_stop |= stop
        return is_best

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Writes the trainable tensors only: the backbone is where it was."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.folder)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.cpu().contiguous() for name, tensor in self.network.trainable_state().items()}
        save_file(state, folder / WEIGHTS)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Adds the marker once every process has written its part, then removes what is no longer needed."""
        super()._save_checkpoint(model, trial)
        self.processes.wait()
        if self.processes.first:
            mark_complete(self.folder / f"checkpoint-{self.state.global_step}")
            rotate(self.folder, keep={self.state.global_step, self.state.best_global_step or 0})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.network.load_trainable_state(load_file(Path(resume_from_checkpoint) / WEIGHTS))


def parameter_groups(model: ProPETLModel, config: TrainConfig) -> list[dict[str, Any]]:
    """Groups for the optimizer; a method without scores has no group for them."""
    others = model.other_parameters()
    decayed = [parameter for name, parameter in others if _decays(name, parameter)]
    plain = [parameter for name, parameter in others if not _decays(name, parameter)]
    scores = [parameter for _, parameter in model.score_parameters()]
    groups = [
        {"params": decayed, "lr": config.rate, "weight_decay": config.weight_decay},
        {"params": plain, "lr": config.rate, "weight_decay": 0.0},
        {"params": scores, "lr": config.score_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Weight matrices do; biases (also those with a slot axis) and LayerNorms do not."""
    return parameter.ndim > 1 and not name.endswith("bias")
