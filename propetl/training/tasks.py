"""The tasks of a configuration, with their rows as token ids."""

import dataclasses
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from transformers import PreTrainedTokenizerFast

from propetl.backbone import Backbone
from propetl.bundle.format import TaskInfo
from propetl.data.generated import GENERATED
from propetl.data.own_task import language_of
from propetl.data.tables import Rows, load_split
from propetl.data.tasks import TASKS, TaskSpec
from propetl.data.tokenise import Collate, EncodedRows, collate_with, encode_rows
from propetl.errors import ConfigurationError
from propetl.training.config import TrainConfig

Batch = dict[str, Any]

_CHOICE_SEED = 20230517  # not the run's seed: runs that differ by seed are scored on the same rows


@dataclass(frozen=True, eq=False)
class Split:
    """The rows of one split of one task.

    Attributes:
        task: its name.
        rows: token ids and labels.
        collate: pads rows to a batch.
        source: file or data set they came from.
    """

    task: str
    rows: EncodedRows
    collate: Collate
    source: str

    def __len__(self) -> int:
        return len(self.rows)

    @property
    def labels(self) -> NDArray[Any]:
        """int64 classes or float64 values ``[n]``."""
        return np.array(self.rows.labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, ``[n]``."""
        return np.array([len(ids) for ids in self.rows.columns["input_ids"]])

    def batch(self, places: Sequence[int]) -> Batch:
        """What the model's ``forward`` takes for the rows at ``places``."""
        return {"task": self.task, **self.collate([self.rows[place] for place in places])}

    def by_length(self, batch_size: int) -> Iterator[list[int]]:
        """Places of all rows in batches of similar length, longest first: evaluation pads little."""
        order = np.argsort(-self.lengths, kind="stable").tolist()
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """One task with its rows."""

    spec: TaskSpec
    train: Split
    dev: Split

    @property
    def info(self) -> TaskInfo:
        """As a bundle describes it."""
        spec = self.spec
        return TaskInfo(
            problem=spec.problem,
            labels=spec.labels,
            columns=spec.columns,
            metrics=spec.metrics,
            label_column=spec.label_column,
            label_values=dict(spec.label_values),
            language=spec.language,
        )

    def samples(self, count: int) -> dict[str, NDArray[np.int64]]:
        """The first ``count`` development rows as padded model inputs ``[rows, longest]``."""
        batch = self.dev.batch(range(min(count, len(self.dev))))
        return {name: value.numpy() for name, value in batch.items() if name not in ("task", "labels")}


def tokenizer_of(backbone: Backbone) -> PreTrainedTokenizerFast:
    """The backbone's tokenizer, which gives ``token_type_ids`` just where the family reads them.

    Raises:
        ConfigurationError: it is one in Python, which a device could not run.
    """
    tokenizer = backbone.tokenizer()
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ConfigurationError(
            f"backbone: {backbone.info.name} has no fast tokenizer (tokenizer.json); choose another backbone"
        )
    inputs = ["input_ids", "attention_mask"]
    tokenizer.model_input_names = [*inputs, "token_type_ids"] if backbone.family.takes_token_types else inputs
    return tokenizer


def specs_of(tasks: Mapping[str, dict[str, Any] | None]) -> dict[str, TaskSpec]:
    """The tasks of a configuration by name.

    Raises:
        ConfigurationError: a task has no definition and is neither GLUE's nor generated.
    """
    return {name: _spec(name, definition) for name, definition in tasks.items()}


def _spec(name: str, definition: dict[str, Any] | None) -> TaskSpec:
    known = {**TASKS, **GENERATED}
    if definition is not None and set(definition) == {"language"} and name in known:
        return dataclasses.replace(known[name], language=language_of(name, definition))
    if definition is not None:
        return TaskSpec.from_mapping(name, definition)
    if name not in known:
        raise ConfigurationError(
            f"tasks: {name!r} has no definition (columns, labels, metrics) and is none of {', '.join(known)}"
        )
    return known[name]


def load_tasks(config: TrainConfig, tokenizer: PreTrainedTokenizerFast) -> list[TrainingTask]:
    """Reads, checks and tokenises the rows of every task of ``config``.

    Raises:
        DataError: a file or row cannot be used.
    """
    if Path(config.data).is_file():
        raise ConfigurationError(
            f"data: {config.data} is one file; training needs two, train and dev: give the folder that holds them"
        )
    return [_load(spec, config, tokenizer) for spec in specs_of(config.tasks).values()]


def _load(spec: TaskSpec, config: TrainConfig, tokenizer: PreTrainedTokenizerFast) -> TrainingTask:
    def split(name: str, limit: int | None) -> Split:
        rows = chosen(load_split(spec, config.data, name), limit)
        encoded = encode_rows(rows, tokenizer, config.max_length)
        return Split(spec.name, encoded, collate_with(tokenizer), rows.source)

    return TrainingTask(spec, split("train", config.max_train_rows), split("dev", config.max_dev_rows))


def chosen(rows: Rows, limit: int | None) -> Rows:
    """At most ``limit`` rows, chosen at random (a file may be sorted by label) and kept in order."""
    if limit is None or limit >= len(rows):
        return rows
    choice = np.random.default_rng(_CHOICE_SEED).permutation(len(rows))[:limit]
    places = sorted(choice.tolist())
    return Rows([rows.texts[place] for place in places], rows.labels[places], rows.source)
