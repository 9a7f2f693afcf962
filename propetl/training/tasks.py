"""The tasks of a configuration, with their rows as token ids."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from propetl.bundle.format import TaskInfo
from propetl.data.generated import GENERATED
from propetl.data.tables import Rows, load_split
from propetl.data.tasks import TASKS, TaskSpec
from propetl.data.tokenise import Tokeniser
from propetl.errors import ConfigurationError
from propetl.training.config import TrainConfig

Batch = dict[str, Any]

_CHOICE_SEED = (
    20230517  # which rows a limit leaves does not change with the run's seed, so seeds can be compared
)


@dataclass(frozen=True, eq=False)
class EncodedRows:
    """The rows of one split of one task.

    Attributes:
        task: its name.
        rows: token ids per row.
        labels: int64 classes or float32 values ``[n]``.
        tokeniser: pads rows to a batch.
        source: file or data set they came from.
    """

    task: str
    rows: list[dict[str, list[int]]]
    labels: NDArray[Any]
    tokeniser: Tokeniser
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    def batch(self, places: Sequence[int]) -> Batch:
        """What the model's ``forward`` takes for the rows at ``places``."""
        inputs: dict[str, Tensor] = {
            name: torch.from_numpy(array)
            for name, array in self.tokeniser.pad([self.rows[p] for p in places]).items()
        }
        return {"task": self.task, **inputs, "labels": torch.from_numpy(self.labels[list(places)])}

    def by_length(self, batch_size: int) -> Iterator[list[int]]:
        """Places of all rows in batches of similar length, longest first: evaluation pads little."""
        order = sorted(range(len(self.rows)), key=lambda place: (-len(self.rows[place]["input_ids"]), place))
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """One task with its rows."""

    spec: TaskSpec
    train: EncodedRows
    dev: EncodedRows

    @property
    def info(self) -> TaskInfo:
        """As a bundle describes it."""
        spec = self.spec
        return TaskInfo(
            problem=spec.problem,
            labels=tuple(spec.labels),
            columns=tuple(spec.columns),
            metrics=tuple(spec.metrics),
            label_column=spec.label_column,
            label_values=dict(spec.label_values),
        )

    def samples(self, count: int) -> dict[str, NDArray[np.int64]]:
        """The first ``count`` development rows as padded model inputs."""
        return self.dev.tokeniser.pad(self.dev.rows[:count])


def specs_of(tasks: Mapping[str, dict[str, Any] | None]) -> dict[str, TaskSpec]:
    """The tasks of a configuration by name.

    Raises:
        ConfigurationError: a task has no definition and is neither GLUE's nor generated.
    """
    return {name: _spec(name, definition) for name, definition in tasks.items()}


def _spec(name: str, definition: dict[str, Any] | None) -> TaskSpec:
    if definition is not None:
        return TaskSpec.from_mapping(name, definition)
    known = {**TASKS, **GENERATED}
    if name not in known:
        raise ConfigurationError(
            f"tasks: {name!r} has no definition (columns, labels, metrics) and is none of {', '.join(known)}"
        )
    return known[name]


def load_tasks(config: TrainConfig, tokeniser: Tokeniser) -> list[TrainingTask]:
    """Reads, checks and tokenises the rows of every task of ``config``.

    Raises:
        DataError: a file or row cannot be used.
    """
    return [_load(spec, config, tokeniser) for spec in specs_of(config.tasks).values()]


def _load(spec: TaskSpec, config: TrainConfig, tokeniser: Tokeniser) -> TrainingTask:
    splits = {"train": config.max_train_rows, "dev": config.max_dev_rows}
    train, dev = (
        _encoded(spec, _chosen(load_split(spec, config.data, split), limit), tokeniser)
        for split, limit in splits.items()
    )
    return TrainingTask(spec, train, dev)


def _chosen(rows: Rows, limit: int | None) -> Rows:
    """At most ``limit`` rows, chosen at random (a file may be sorted by label) and kept in order."""
    if limit is None or limit >= len(rows):
        return rows
    choice = np.random.default_rng(_CHOICE_SEED).permutation(len(rows))[:limit]
    places = sorted(choice.tolist())
    return Rows([rows.texts[place] for place in places], rows.labels[places], rows.source)


def _encoded(spec: TaskSpec, rows: Rows, tokeniser: Tokeniser) -> EncodedRows:
    return EncodedRows(spec.name, tokeniser.encode(rows.texts), rows.labels, tokeniser, rows.source)
