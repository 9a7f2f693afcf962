"""Rows of the tasks, by which quantisation measures how large activations get."""

from collections.abc import Iterable, Iterator, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.data.tables import load_split
from propetl.errors import ConfigurationError
from propetl.export.parity import spec_of
from propetl.runtime.artifact import Artifact
from propetl.runtime.batching import Feeds, batches_of_feeds, batches_of_token_rows
from propetl.runtime.rows import Text
from propetl.runtime.signatures import BANK, SWITCHABLE, TASK_ID
from propetl.runtime.tokenise import Tokeniser
from propetl.training.tasks import chosen

CALIBRATION_ROWS = 128
"""Training rows of each task at most; more change the ranges little."""

_BATCH_ROWS = 16
_SPLIT = "train"


def calibration_batches(artifact: Artifact, tasks: Iterable[str], data: str | None) -> dict[str, list[Feeds]]:
    """Token inputs int64 ``[rows, longest]`` of each task, in batches.

    Args:
        artifact: whose tokenizer, tasks and golden rows are used.
        tasks: names.
        data: where the tasks' training rows are (a folder, a file, or ``hub:NAME``); None for the few golden
            rows that every artifact holds.

    Raises:
        DataError: a row cannot be used.
        ConfigurationError: a task has no rows there.
    """
    if data is None:
        golden = {task: artifact.golden(task).feeds for task in tasks}
        return {task: [part.feeds for part in batches_of_feeds(rows, _BATCH_ROWS)] for task, rows in golden.items()}
    return {task: _batches_of(artifact, task, data) for task in tasks}


def graph_feeds(
    artifact: Artifact, form: str, task: str | None, batches: Mapping[str, Iterable[Feeds]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """All inputs of a graph of ``form``, batch by batch: of ``task``, or of every task that the graph serves."""
    for name in artifact.manifest.tasks if task is None else (task,):
        extra = artifact.pack(name).tensors() if form == SWITCHABLE else {}
        for batch in batches[name]:
            ids = (
                np.full(len(batch["input_ids"]), artifact.manifest.forms[BANK].task_ids[name]) if form == BANK else None
            )
            yield {**batch, **extra} if ids is None else {**batch, TASK_ID: ids}


def rows_in(batches: Iterable[Feeds]) -> int:
    """How many rows ``batches`` hold."""
    return sum(len(batch["input_ids"]) for batch in batches)


def _batches_of(artifact: Artifact, task: str, data: str) -> list[Feeds]:
    manifest = artifact.manifest
    rows = chosen(load_split(spec_of(task, artifact.task(task).info), data, _SPLIT), CALIBRATION_ROWS)
    texts: list[Text] = [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows.texts]
    if not texts:
        raise ConfigurationError(f"task {task} has no rows in {rows.source}; calibrate on another data set")
    tokeniser = Tokeniser(artifact.tokenizer_path, manifest.max_length, manifest.pad_token_id, manifest.token_inputs)
    return [batch.feeds for batch in batches_of_token_rows(tokeniser.rows(texts), tokeniser, _BATCH_ROWS)]
