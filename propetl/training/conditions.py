"""Under which conditions a run was made, for the report."""

import platform
from collections.abc import Sequence
from typing import Any

import torch
import transformers

import propetl
from propetl.training.config import TrainConfig
from propetl.training.loader import joint_sampler, shards_of
from propetl.training.processes import Processes
from propetl.training.tasks import TrainingTask
from propetl.training.truncation import truncation_json


def conditions_of(
    config: TrainConfig, tasks: Sequence[TrainingTask], processes: Processes, seconds: float
) -> dict[str, Any]:
    """JSON-able; ``seconds`` are those of training in this process, since the last resume."""
    names = [task.spec.name for task in tasks]
    return {
        "seconds": round(seconds, 1),
        "device": torch.cuda.get_device_name() if processes.on_gpu else f"cpu ({platform.machine()})",
        "processes": processes.count,
        "shards": shards_of(config, processes),
        "threads": torch.get_num_threads(),
        "python": platform.python_version(),
        "propetl": propetl.__version__,
        "torch": torch.__version__,
        "transformers": transformers.__version__,
        "rows": {task.spec.name: {"train": len(task.train), "dev": len(task.dev)} for task in tasks},
        "batches_per_epoch": dict(zip(names, joint_sampler(tasks, config).batches, strict=True)),
        "truncation": truncation_json(tasks),
        "sources": {task.spec.name: {"train": task.train.source, "dev": task.dev.source} for task in tasks},
    }
