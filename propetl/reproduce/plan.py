"""From a set to the runs it takes: one for each experiment, seed and (where tasks are trained alone) task."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

from propetl.errors import ConfigurationError
from propetl.nearest import did_you_mean
from propetl.reproduce.sets import ExperimentSet, Row
from propetl.training.config import TrainConfig
from propetl.training.config_file import load_config


@dataclass(frozen=True)
class ReproduceOptions:
    """What a user changes of a set.

    Attributes:
        output: folder of all runs.
        seeds: instead of the set's; empty for those.
        tasks: only these; empty for all.
        rows: only these experiments; empty for all.
        overrides: values by dotted key over every configuration.
    """

    output: Path
    seeds: tuple[int, ...] = ()
    tasks: tuple[str, ...] = ()
    rows: tuple[str, ...] = ()
    overrides: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True)
class PlannedRun:
    """One training run.

    Attributes:
        row: name of the experiment.
        seed: of the run.
        config: complete; it trains the tasks of ``config.tasks`` together.
    """

    row: str
    seed: int
    config: TrainConfig

    @property
    def tasks(self) -> tuple[str, ...]:
        """Tasks that it trains."""
        return tuple(self.config.tasks)

    def __str__(self) -> str:
        return f"{self.row}, seed {self.seed}, {', '.join(self.tasks)}"


def runs_of(chosen: ExperimentSet, folder: Path, options: ReproduceOptions) -> tuple[PlannedRun, ...]:
    """All runs of a set, in the order of its rows, then seeds, then tasks; each has a folder of its own.

    Args:
        chosen: the set.
        folder: that holds its configurations.
        options: the user's changes.

    Raises:
        ConfigurationError: a configuration or a change is wrong, or a row or task is not in the set.
    """
    if unknown := sorted(set(options.rows) - {row.name for row in chosen.rows}):
        known = [row.name for row in chosen.rows]
        raise ConfigurationError(
            f"--row {unknown[0]!r} is not in the set; it has {', '.join(known)}{did_you_mean(unknown[0], known)}"
        )
    rows = [row for row in chosen.rows if not options.rows or row.name in options.rows]
    seeds = options.seeds or chosen.seeds
    return tuple(run for row in rows for seed in seeds for run in _runs_of_row(row, seed, folder, options))


def check_runs(chosen: ExperimentSet, folder: Path, options: ReproduceOptions) -> None:
    """Raises what :func:`runs_of` raises, having read each configuration for one seed."""
    runs_of(chosen, folder, replace(options, seeds=(options.seeds or chosen.seeds)[:1]))


def _runs_of_row(row: Row, seed: int, folder: Path, options: ReproduceOptions) -> Iterator[PlannedRun]:
    path = folder / row.config
    output = options.output / row.folder / f"seed-{seed}"
    base = {**row.overrides, **options.overrides, "seed": seed}
    tasks = _tasks(load_config(path, base), row, options)
    if not row.separate:
        together = output.with_name("-".join([output.name, *options.tasks]))  # fewer tasks learn another prototype
        yield PlannedRun(row.name, seed, load_config(path, {**base, "output": str(together)}, tasks))
        return
    for task in tasks:
        changes = {**row.overrides, **row.by_task.get(task, {}), **options.overrides, "seed": seed}
        yield PlannedRun(row.name, seed, load_config(path, {**changes, "output": str(output / task)}, (task,)))


def _tasks(config: TrainConfig, row: Row, options: ReproduceOptions) -> tuple[str, ...]:
    if unknown := sorted(set(options.tasks) - set(config.tasks)):
        raise ConfigurationError(
            f"--task {unknown[0]!r} is not in {row.config}; it has {', '.join(config.tasks)}"
            f"{did_you_mean(unknown[0], config.tasks)}"
        )
    return tuple(task for task in config.tasks if not options.tasks or task in options.tasks)
