"""transformers' Trainer, taught two learning rates, one task per batch, small checkpoints and metrics per task."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, cast

import torch
from safetensors.torch import load_file, save_file
from torch import nn
from torch.utils.data import DataLoader, Dataset
from transformers import PrinterCallback, Trainer, TrainerCallback, TrainingArguments

from propetl.model import ProPETLModel
from propetl.training.checkpoints import WEIGHTS, mark_complete, rotate
from propetl.training.config import TrainConfig
from propetl.training.evaluate import eval_log, evaluate_tasks
from propetl.training.processes import Processes
from propetl.training.progress import stopped_early
from propetl.training.sampler import Row, TaskBatchSampler
from propetl.training.tasks import Batch, Split, TrainingTask


class JointRows(Dataset[Row]):
    """The rows of all tasks, addressed by (task, row); the collator reads them."""

    def __init__(self, splits: Sequence[Split]) -> None:
        self.splits = list(splits)

    def __len__(self) -> int:
        return sum(len(split) for split in self.splits)

    def __getitem__(self, place: Row) -> Row:
        return place

    def collate(self, places: list[Row]) -> Batch:
        """One batch: all of ``places`` are of one task."""
        return self.splits[places[0][0]].batch([row for _, row in places])


class EpochLoader(DataLoader[Batch]):
    """A loader that tells its batch sampler which epoch begins, as the Trainer expects of it."""

    def set_epoch(self, epoch: int) -> None:
        """Chooses the epoch that the next iteration yields."""
        sampler: Any = self.batch_sampler
        sampler.set_epoch(epoch)


class Trained(nn.Module):
    """The model as the Trainer sees it: without ``config``, which it would take for that of a transformers model."""

    accepts_loss_kwargs = False  # the loss is a mean over the batch; the Trainer divides by the accumulation

    def __init__(self, network: ProPETLModel) -> None:
        super().__init__()
        self.network = network

    def forward(self, **batch: Any) -> Any:
        """``ProPETLModel.forward``."""
        return self.network(**batch)


class ProPETLTrainer(Trainer):
    """Trains a :class:`ProPETLModel` on several tasks.

    Differences to the Trainer it builds on:

    * scores have a learning rate of their own and no weight decay: only the order of their sizes matters, and
      decay would shrink all of them alike;
    * batches come from :class:`TaskBatchSampler`, which deals out each batch to the processes;
    * a checkpoint holds trainable tensors only, is marked when complete, and is written at every new best;
    * evaluation gives every task's metrics, and the best step is that of the best mean of the main ones.
    """

    def __init__(
        self,
        model: ProPETLModel,
        args: TrainingArguments,
        tasks: Sequence[TrainingTask],
        config: TrainConfig,
        processes: Processes,
        callbacks: Sequence[TrainerCallback],
    ) -> None:
        self.tasks = tuple(tasks)
        self.config = config
        self.processes = processes
        self.network = model
        dev = {task.spec.name: task.dev for task in self.tasks}
        super().__init__(
            model=Trained(model), args=args, eval_dataset=cast(Any, dev), callbacks=list(callbacks)
        )
        self.remove_callback(PrinterCallback)

    def get_train_dataloader(self) -> EpochLoader:
        """Loader of this process's part of every batch; Accelerate needs to do nothing about it."""
        rows = JointRows([task.train for task in self.tasks])
        sampler = joint_sampler(self.tasks, self.config, self.processes)
        # A generator of its own keeps the loader from drawing from the one that dropout uses.
        return EpochLoader(
            rows,
            batch_sampler=sampler,
            collate_fn=rows.collate,
            pin_memory=self.args.dataloader_pin_memory,
            generator=torch.Generator(),
        )

    def create_optimizer(self, model: Any = None) -> torch.optim.Optimizer:
        """AdamW over three groups: decayed and plain parameters at one rate, scores at another."""
        if self.optimizer is None:
            groups = parameter_groups(self.network, self.config)
            self.optimizer = torch.optim.AdamW(groups, lr=self.config.rate)
        return self.optimizer

    def evaluate(self, *_: Any, **__: Any) -> dict[str, float]:
        """Metrics of every task, logged as ``eval_<task>_<metric>`` and ``eval_average``."""
        scores = evaluate_tasks(self.model, self.tasks, self.config.eval_batch_size, self.processes)
        metrics = eval_log(scores, self.tasks)
        self.log(dict(metrics))
        self.control = self.callback_handler.on_evaluate(self.args, self.state, self.control, metrics)
        return metrics

    def _determine_best_metric(self, metrics: dict[str, float], trial: Any) -> bool:
        """Saves whenever there is a new best; stops when patience has run out."""
        is_best = super()._determine_best_metric(metrics, trial)
        stop = stopped_early(
            self.state.log_history, self.state.best_global_step, self.config.early_stopping_patience
        )
        self.control.should_save |= is_best or stop
        self.control.should_training_stop |= stop
        return is_best

    def _save(self, output_dir: str | None = None, state_dict: Any = None) -> None:
        """Writes the trainable tensors only: the backbone is where it was."""
        if not self.args.should_save:
            return
        folder = Path(output_dir or self.args.output_dir)
        folder.mkdir(parents=True, exist_ok=True)
        state = {name: tensor.cpu().contiguous() for name, tensor in self.network.trainable_state().items()}
        save_file(state, folder / WEIGHTS)

    def _save_checkpoint(self, model: Any, trial: Any) -> None:
        """Adds the marker once every process has written its part, then removes what is no longer needed."""
        super()._save_checkpoint(model, trial)
        self.processes.wait()
        if self.processes.first:
            folder = Path(self.args.output_dir)
            mark_complete(folder / f"checkpoint-{self.state.global_step}")
            rotate(folder, keep={self.state.global_step, self.state.best_global_step or 0})

    def _load_from_checkpoint(self, resume_from_checkpoint: str, model: Any = None) -> None:
        self.network.load_trainable_state(load_file(Path(resume_from_checkpoint) / WEIGHTS))


def joint_sampler(
    tasks: Sequence[TrainingTask], config: TrainConfig, processes: Processes
) -> TaskBatchSampler:
    """The batches of a run, as this process sees them."""
    return TaskBatchSampler(
        [task.train.lengths for task in tasks],
        config.batch_size,
        config.seed,
        group_by_length=config.group_by_length,
        process=processes.index,
        processes=processes.count,
    )


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
