"""The tasks of a configuration, with their rows as token ids."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.backbone import Backbone
from propetl.bundle.tokenizer_files import JSON_FILE
from propetl.bundle.words import IGNORED
from propetl.data.as_text import as_text
from propetl.data.known import specs_of
from propetl.data.tables import Rows, chosen, label_array, load_splits
from propetl.data.tokenise import Collate, EncodedRows, collate_with, encode_task_rows
from propetl.errors import ConfigurationError
from propetl.families import Kind
from propetl.runtime.tokenise import Tokeniser
from propetl.task import TaskSpec
from propetl.training.config import TrainConfig

__all__ = [
    "Batch",
    "Split",
    "TaskRows",
    "TrainingTask",
    "encode_tasks",
    "load_tasks",
    "notes_of",
    "read_rows",
    "specs_of",
    "tokenizer_of",
]

Batch = dict[str, Any]


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
        """int64 classes, float64 values, texts or tuples of tags ``[n]``."""
        labels = self.rows.labels
        return label_array(labels) if isinstance(labels[0], str | tuple) else np.array(labels)

    @property
    def lengths(self) -> NDArray[np.int64]:
        """Tokens of each row, ``[n]``."""
        return np.array([len(ids) for ids in self.rows.columns["input_ids"]])

    def targets(self, places: Sequence[int]) -> int:
        """How many losses the rows at ``places`` have: one each, or one for each token that has a label."""
        rows = self.rows.targets
        if rows is None:
            return len(places)
        return sum(label != IGNORED for place in places for label in rows[place])

    def batch(self, places: Sequence[int]) -> Batch:
        """What the model's ``forward`` takes for the rows at ``places``."""
        return {"task": self.task, **self.collate([self.rows[place] for place in places])}

    def words(self, places: Sequence[int]) -> list[NDArray[np.int64]] | None:
        """The place of each word's first token, for the rows at ``places``; None where words have no answer."""
        return None if self.rows.places is None else [self.rows.places[place] for place in places]

    def by_length(self, batch_size: int) -> Iterator[list[int]]:
        """Places of all rows in batches of similar length, longest first: evaluation pads little."""
        order = np.argsort(-self.lengths, kind="stable").tolist()
        for start in range(0, len(order), batch_size):
            yield order[start : start + batch_size]


@dataclass(frozen=True, eq=False)
class TaskRows:
    """The rows of one task as they were read.

    Attributes:
        train: rows to learn from.
        dev: rows to score on.
        label_values: how their labels were read, where that could be doubted; see ``TaskSpec``.
    """

    train: Rows
    dev: Rows
    label_values: Mapping[str, int] = field(default_factory=dict)


@dataclass(frozen=True, eq=False)
class TrainingTask:
    """One task with its rows.

    Attributes:
        spec: what it is.
        train: rows to learn from.
        dev: rows to score on.
        decode: rows of token ids to texts, as a device decodes them.
    """

    spec: TaskSpec
    train: Split
    dev: Split
    decode: Callable[[Sequence[Sequence[int]]], list[str]]

    def samples(self, count: int) -> dict[str, NDArray[np.int64]]:
        """The first ``count`` development rows as padded model inputs ``[rows, longest]``."""
        batch = self.dev.batch(range(min(count, len(self.dev))))
        return {name: value.numpy() for name, value in batch.items() if name not in ("task", "labels")}


def tokenizer_of(backbone: Backbone) -> Tokeniser:
    """The backbone's tokenizer as a device reads it, which truncates nothing yet."""
    content = backbone.tokenizer_files[JSON_FILE]
    return Tokeniser(content, None, backbone.pad_token_id, backbone.family.inputs, backbone.end_token_id)


def load_tasks(config: TrainConfig, tokenizer: Tokeniser, kind: Kind = "encoder") -> list[TrainingTask]:
    """:func:`read_rows`, then :func:`encode_tasks`."""
    return encode_tasks(config, read_rows(config), tokenizer, kind)


def read_rows(config: TrainConfig) -> dict[str, TaskRows]:
    """The rows of every task of ``config``, by its name, read and checked.

    Raises:
        DataError: a file or row cannot be used.
    """
    if Path(config.data).is_file():
        raise ConfigurationError(
            f"data: {config.data} is one file; training needs two, train and dev: give the folder that holds them"
        )
    return {name: _read(spec, config) for name, spec in specs_of(config.tasks).items()}


def notes_of(rows: Mapping[str, TaskRows]) -> list[str]:
    """Notes for the user about how rows were read."""
    return [split.note for both in rows.values() for split in (both.train, both.dev) if split.note]


def _read(spec: TaskSpec, config: TrainConfig) -> TaskRows:
    settled, rows = load_splits(spec, config.data, ("train", "dev"))
    train, dev = chosen(rows["train"], config.max_train_rows), chosen(rows["dev"], config.max_dev_rows)
    return TaskRows(train, dev, settled.label_values)


def encode_tasks(
    config: TrainConfig, rows: Mapping[str, TaskRows], tokenizer: Tokeniser, kind: Kind = "encoder"
) -> list[TrainingTask]:
    """Tokenises the rows of every task of ``config``.

    Args:
        config: of the run.
        rows: of its tasks.
        tokenizer: the backbone's.
        kind: of the backbone; on an encoder-decoder, all tasks are answered in text.

    Raises:
        ConfigurationError: a task cannot be asked or answered in text.
        DataError: a row cannot be used.
    """
    known = specs_of(config.tasks)
    specs = {name: replace(spec, label_values=rows[name].label_values) for name, spec in known.items()}
    limited = tokenizer.limited(config.max_length)
    limited.check_room()
    return [_encode(spec, rows[name], config, limited, kind) for name, spec in specs.items()]


def _encode(
    spec: TaskSpec, rows: TaskRows, config: TrainConfig, tokenizer: Tokeniser, kind: Kind
) -> TrainingTask:
    spec = settled(spec, tokenizer, kind, rows.train.labels)
    train, dev = (_split(spec, split, config.max_length, tokenizer, kind) for split in (rows.train, rows.dev))
    return TrainingTask(spec, train, dev, tokenizer.decode_batch)


def _split(spec: TaskSpec, rows: Rows, max_length: int, tokenizer: Tokeniser, kind: Kind) -> Split:
    encoded = encode_task_rows(rows, spec, tokenizer, max_length, continues=kind == "decoder")
    return Split(spec.name, encoded, collate_with(tokenizer), rows.source)


def settled(spec: TaskSpec, tokenizer: Tokeniser, kind: Kind, labels: NDArray[Any]) -> TaskSpec:
    """``spec`` as it is trained on a backbone of ``kind``: an encoder-decoder answers every task in text.

    Args:
        spec: the task.
        tokenizer: of the backbone, at the length of the texts.
        kind: of the backbone.
        labels: ``[n]`` of its rows, for answers as long as the longest; empty where none are known yet.

    Raises:
        ConfigurationError: the tokenizer cannot ask or answer it in text.
    """
    if kind == "encoder-decoder":
        spec = as_text(spec)
    return spec.kind.fitted(spec, labels, tokenizer, continues=kind == "decoder")
