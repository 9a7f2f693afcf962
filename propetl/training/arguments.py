"""The Trainer's own arguments, and the device they choose."""

import atexit
import os
from pathlib import Path

import torch
from torch import distributed
from transformers import TrainingArguments

from propetl.errors import BackendError, ConfigurationError
from propetl.training.config import TrainConfig
from propetl.training.evaluate import AVERAGE
from propetl.training.processes import Processes
from propetl.training.schedule import Schedule


def use_gpu(config: TrainConfig) -> bool:
    """Whether the run is on a GPU.

    Raises:
        BackendError: a GPU was asked for and there is none, or it does not know the precision.
        ConfigurationError: fp16 was asked for on the CPU.
    """
    there = torch.cuda.is_available()
    if config.device == "cuda" and not there:
        raise BackendError("device: cuda was asked for, but torch finds no CUDA GPU; use device: cpu")
    gpu = there and config.device != "cpu"
    if config.precision == "fp16" and not gpu:
        raise ConfigurationError("precision: fp16 needs a GPU and this run is on the CPU; use bf16 or fp32")
    if config.precision == "bf16" and gpu and not torch.cuda.is_bf16_supported():
        raise BackendError("precision: this GPU has no bf16; use fp16 or fp32")
    return gpu


def processes_of(config: TrainConfig) -> Processes:
    """This process among those that ``torchrun`` started; joins their group on first use.

    Raises:
        ConfigurationError: the batch cannot be split evenly over processes or shards.
    """
    count = int(os.environ.get("WORLD_SIZE", "1"))
    check_shards(config, count)
    gpu = use_gpu(config)
    if count == 1:
        return Processes(on_gpu=gpu)
    # Making the arguments joins the group, as the Trainer will want it.
    arguments = _arguments(config, config.output, Processes(0, count, gpu))
    atexit.register(_leave_group)
    beside = distributed.new_group(backend="gloo") if gpu else None
    return Processes(arguments.process_index, count, gpu, beside)


def check_shards(config: TrainConfig, count: int) -> None:
    """Refuses a batch that ``count`` processes cannot share out.

    Raises:
        ConfigurationError: it cannot be split evenly over processes or shards.
    """
    if config.batch_size % count:
        raise ConfigurationError(f"batch_size: {config.batch_size} cannot be split evenly over {count} processes")
    if config.shards is not None and (config.shards % count or config.batch_size % config.shards):
        raise ConfigurationError(
            f"shards: {config.shards} has to divide batch_size ({config.batch_size}) and to be a multiple of "
            f"the number of processes ({count})"
        )


def _leave_group() -> None:
    """Threads of the group that still run when Python ends would abort the process."""
    if distributed.is_initialized():
        distributed.destroy_process_group()


def training_arguments(
    config: TrainConfig, schedule: Schedule, folder: Path, processes: Processes
) -> TrainingArguments:
    """Arguments for a run that keeps its checkpoints in ``folder``."""
    return _arguments(
        config,
        folder,
        processes,
        max_steps=schedule.max_steps,
        warmup_steps=schedule.warmup_steps,
        eval_steps=schedule.eval_every,
        save_steps=schedule.save_every,
    )


def _arguments(config: TrainConfig, folder: Path, processes: Processes, **steps: int) -> TrainingArguments:
    gpu = processes.on_gpu
    arguments = TrainingArguments(
        output_dir=str(folder),
        per_device_train_batch_size=config.batch_size // processes.count,
        gradient_accumulation_steps=config.gradient_accumulation,
        learning_rate=config.rate,
        weight_decay=config.weight_decay,
        max_grad_norm=config.max_grad_norm,
        seed=config.seed,
        bf16=config.precision == "bf16",
        fp16=config.precision == "fp16",
        use_cpu=not gpu,
        ddp_backend=None if gpu or processes.count == 1 else "gloo",
        # A step trains one task: the scores and heads of the others get no gradient in it.
        ddp_find_unused_parameters=len(config.tasks) > 1,
        eval_strategy="steps",
        save_strategy="steps",
        logging_strategy="steps",
        logging_steps=config.log_every,
        logging_nan_inf_filter=False,
        metric_for_best_model=AVERAGE,
        greater_is_better=True,
        report_to="none",
        disable_tqdm=True,
        log_level="error",
        log_level_replica="error",
        **steps,  # type: ignore[arg-type]  # mypy holds every int against every other argument
    )
    arguments._n_gpu = int(gpu)  # several GPUs work through torchrun; DataParallel cannot carry a task's name
    return arguments
