"""How long a run is, and when it evaluates and saves: everything in optimizer steps."""

import math
from dataclasses import dataclass

from propetl.training.config import TrainConfig


@dataclass(frozen=True)
class Schedule:
    """A run's length in optimizer steps.

    Attributes:
        epoch_steps: steps of one epoch.
        max_steps: steps of the run.
        warmup_steps: steps with rising learning rate.
        eval_every: steps between evaluations; there is always one at the end.
        save_every: steps between checkpoints; there is always one at the end and at every new best.
    """

    epoch_steps: int
    max_steps: int
    warmup_steps: int
    eval_every: int
    save_every: int


def schedule_of(config: TrainConfig, batches: int) -> Schedule:
    """The schedule of a run whose epoch has ``batches`` batches."""
    epoch_steps = math.ceil(batches / config.gradient_accumulation)
    max_steps = config.max_steps or max(1, math.ceil(config.epochs * epoch_steps))
    return Schedule(
        epoch_steps=epoch_steps,
        max_steps=max_steps,
        warmup_steps=math.ceil(config.warmup_ratio * max_steps),
        eval_every=min(config.eval_every or epoch_steps, max_steps),
        save_every=min(config.save_every or epoch_steps, max_steps),
    )
