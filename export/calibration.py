"""Rows of the tasks, by which quantisation measures how large activations get."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from contextlib import suppress
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.data.tables import chosen, load_split
from propetl.errors import ConfigurationError, DataError
from propetl.runtime.artifact import Artifact
from propetl.runtime.batching import Feeds, batches_of_feeds, batches_of_token_rows
from propetl.runtime.engine_records import GraphName
from propetl.runtime.engines import EngineOptions
from propetl.runtime.rows import source_of
from propetl.runtime.signatures import BANK, STAGES, SWITCHABLE, TASK_ID
from propetl.runtime.tokenise import Tokeniser

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
    return {task: _batches_of(artifact, task, data, _SPLIT, CALIBRATION_ROWS) for task in tasks}


def measured_batches(artifact: Artifact, tasks: Iterable[str], data: str | None) -> dict[str, list[Feeds]]:
    """Token inputs of each task's golden rows, and with ``data`` of its development rows and some training rows.

    Raises:
        DataError: a development row cannot be used.
    """
    batches = calibration_batches(artifact, tasks, None)
    for task, mine in batches.items() if data is not None else ():
        mine += _batches_of(artifact, task, str(data), "dev", None)
        with suppress(DataError):  # rows that were trained on are good to have, and may be elsewhere
            mine += _batches_of(artifact, task, str(data), _SPLIT, CALIBRATION_ROWS)
    return batches


def graph_feeds(
    artifact: Artifact, graph: GraphName, batches: Mapping[str, Iterable[Feeds]]
) -> Iterator[dict[str, NDArray[Any]]]:
    """All inputs of ``graph``, batch by batch: of the task that it is bound to, or of every task that it serves."""
    of_task = _of_stages(artifact) if graph.form == STAGES else partial(_of_task, artifact, graph.form)
    for task in artifact.manifest.tasks if graph.task is None else (graph.task,):
        extra = of_task(task)
        for batch in batches[task]:
            if graph.form == BANK:
                row = artifact.manifest.forms[BANK].task_ids[task]
                extra = {TASK_ID: np.full(len(batch["input_ids"]), row)}
            yield {**batch, **extra}


def _of_task(artifact: Artifact, form: str, task: str) -> dict[str, NDArray[Any]]:
    """What a graph of ``form`` that is no stage takes for ``task``, whatever the batch."""
    return artifact.pack(task).tensors() if form == SWITCHABLE else {}


def _of_stages(artifact: Artifact) -> Callable[[str], dict[str, NDArray[Any]]]:
    """What the stage that runs texts takes for a task: the other one is loaded once, for all of them."""
    stages = next(info.stages for info in artifact.manifest.forms.values() if info.stages is not None)
    # Imported here: an extra, which who calibrates has checked.
    from propetl.runtime.engines.ort import load

    engine = load(artifact, stages.apply, EngineOptions(threads=1))

    def applied(task: str) -> dict[str, NDArray[Any]]:
        rows = {name: tensor[None] for name, tensor in artifact.pack(task).tensors().items()}
        return {name: value.numpy() for name, value in engine.evaluate(engine.prepare(rows)).items()}

    return applied


def rows_in(batches: Iterable[Feeds]) -> int:
    """How many rows ``batches`` hold."""
    return sum(len(batch["input_ids"]) for batch in batches)


def _batches_of(artifact: Artifact, task: str, data: str, split: str, most: int | None) -> list[Feeds]:
    manifest, info = artifact.manifest, artifact.task(task).info
    rows = chosen(load_split(info, data, split), most)
    texts = [source_of(info, row[0] if len(row) == 1 else row) for row in rows.texts]
    if not texts:
        raise ConfigurationError(f"task {task} has no rows in {rows.source}; calibrate on another data set")
    tokeniser = Tokeniser(artifact.tokenizer_path, manifest.max_length, manifest.pad_token_id, manifest.token_inputs)
    return [batch.feeds for batch in batches_of_token_rows(tokeniser.rows(texts), tokeniser, _BATCH_ROWS)]
