"""Parity: every real row through PyTorch and through the artifact, in numbers and in the task's metric."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from rich.console import Console
from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

from propetl.backbone import load_backbone_of
from propetl.bundle.reader import read_bundle
from propetl.data.metrics import check_metrics, compute
from propetl.data.tables import Rows, load_split
from propetl.data.tokenise import collate_with, encode_task_rows
from propetl.model import ProPETLModel
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.precision import computed_precision
from propetl.runtime.report import TOLERANCES, Comparison, Tolerance
from propetl.runtime.rows import Text
from propetl.runtime.session import Session
from propetl.runtime.signatures import BANK
from propetl.task import TaskSpec
from propetl.training.tasks import Split, tokenizer_of

Answers = NDArray[np.float32] | list[str]
"""Logits ``[rows, outputs]``, those of tags ``[rows, words, outputs]``, or what was generated for each row."""

Decode = Callable[[list[list[int]]], list[str]]

_BATCH_ROWS = 32
_SPLIT = "dev"


@dataclass(frozen=True, eq=False)
class Reference:
    """What PyTorch says of one task's rows."""

    task: str
    info: TaskSpec
    rows: Rows
    answers: Answers
    metrics: dict[str, float]

    @property
    def texts(self) -> list[Text]:
        """Rows as a session takes them."""
        return [row[0] if len(row) == 1 else row for row in self.rows.texts]


def compare(
    artifact_path: Path,
    bundle_path: Path,
    data: str,
    *,
    form: str | None = None,
    provider: str = "cpu",
    threads: int | None = None,
    device: int = 0,
    engine_cache: Path | None = None,
    precision: str | None = None,
    backbone: str | None = None,
    allow_pickle: bool = False,
    max_rows: int | None = None,
) -> Iterator[Comparison]:
    """Compares each form of an artifact with the bundle it came from, on the development rows of ``data``.

    PyTorch's side is tokenised by the bundle's tokenizer and the artifact's by its own, so that differences
    there show, too. Form bank also runs the rows of all tasks mixed.

    Args:
        artifact_path: folder of the artifact.
        bundle_path: folder of the bundle.
        data: where the tasks' rows are: a folder, a file, or ``hub:NAME``.
        form: the only form to compare; None for all.
        provider: what runs the artifact.
        threads: threads on both sides; None for all cores.
        device: number of the GPU, for providers that run on one; PyTorch's side runs on the CPU.
        engine_cache: folder for engines that a provider builds here; None for the user's cache folder.
        precision: which of several engines a provider of plans runs; None for the first.
        backbone: where to load the backbone from, instead of the place the bundle names.
        allow_pickle: read a backbone that has no safetensors, tensors alone.
        max_rows: rows per task at most.

    Yields:
        One comparison per form and task.

    Raises:
        ArtifactError: the artifact was made from another bundle.
        MissingExtraError: a library that computes a task's metric is not installed.
        DataError: a row cannot be used.
    """
    artifact = read_artifact(artifact_path)
    bundle = read_bundle(bundle_path)
    artifact.check_origin(bundle)
    check_metrics(metric for task in artifact.manifest.tasks for metric in bundle.info.tasks[task].metrics)
    rows = {
        task: load_split(bundle.info.tasks[task], data, _SPLIT, max_rows)
        for task in artifact.manifest.tasks
    }
    loaded = load_backbone_of(bundle.info.backbone, backbone, allow_pickle=allow_pickle)
    loaded = loaded.with_tokenizer(bundle.tokenizer_folder)
    model = ProPETLModel.from_bundle(bundle, loaded)
    tokenizer = tokenizer_of(loaded)
    if threads is not None:
        torch.set_num_threads(threads)
    with _bar() as progress:
        references = []
        for task, found in rows.items():
            encoded = encode_task_rows(found, bundle.info.tasks[task], tokenizer, bundle.info.max_length)
            split = Split(task, encoded, collate_with(tokenizer), found.source)
            references.append(_reference(model, split, found, tokenizer.decode_batch, progress))
        for name in artifact.forms if form is None else (form,):
            options = EngineOptions(provider, threads, device=device, engine_cache=engine_cache, precision=precision)
            yield from _compare_form(artifact, name, references, options, progress)


def _bar() -> Progress:
    columns = (
        TextColumn("{task.description}"),
        BarColumn(),
        TextColumn("{task.completed}/{task.total} rows"),
        TimeElapsedColumn(),
    )
    return Progress(*columns, console=Console(stderr=True))


def _reference(model: ProPETLModel, split: Split, rows: Rows, decode: Decode, progress: Progress) -> Reference:
    bar = progress.add_task(f"PyTorch: {split.task}", total=len(split))
    info = model.infos[split.task]
    found: dict[int, Any] = {}
    for places in split.by_length(_BATCH_ROWS):
        batch = split.batch(places)
        del batch["labels"], batch["task"]
        with torch.inference_mode():
            answered = info.kind.answers(model, split.task, batch, split.words(places), decode)
        found |= dict(zip(places, answered, strict=True))
        progress.advance(bar, len(places))
    answers = _in_order(found, info)
    return Reference(split.task, info, rows, answers, _metrics(info, answers, rows.labels))


def _in_order(found: Mapping[int, Any], info: TaskSpec) -> Answers:
    answers: Answers = info.kind.together([found[place] for place in range(len(found))])
    return answers


def _metrics(info: TaskSpec, answers: Answers, labels: NDArray[Any]) -> dict[str, float]:
    return compute(info.metrics, info.kind.scored(info, answers, labels), labels)


def _compare_form(
    artifact: Artifact,
    form: str,
    references: list[Reference],
    options: EngineOptions,
    progress: Progress,
) -> Iterator[Comparison]:
    """One comparison per task; for form bank another one with the rows of all tasks mixed."""
    tolerance = TOLERANCES[computed_precision(artifact.manifest, options)]
    with Session.open(
        artifact.path,
        options.provider,
        form,
        options.threads,
        verify=False,
        device=options.device,
        engine_cache=options.engine_cache,
        precision=options.precision,
    ) as session:
        for reference in references:
            bar = progress.add_task(f"{form}: {reference.task}", total=len(reference.rows))
            found = reference.info.kind.ask(session, reference.task, reference.texts)
            progress.update(bar, completed=len(reference.rows))
            yield _comparison(tolerance, form, reference, found, "batch")
        if form == BANK and len(references) > 1:
            yield from _compare_mixed(tolerance, session, references, progress)


def _compare_mixed(
    tolerance: Tolerance, session: Session, references: list[Reference], progress: Progress
) -> Iterator[Comparison]:
    """Rows of all tasks in one stream, in a fixed random order, so that batches mix tasks."""
    places = [(reference, row) for reference in references for row in range(len(reference.rows))]
    shuffled = [places[index] for index in np.random.default_rng(0).permutation(len(places))]
    bar = progress.add_task(f"{BANK}: all tasks mixed", total=len(places))
    asked = [(reference.task, reference.texts[row]) for reference, row in shuffled]
    answers = references[0].info.kind.ask_mixed(session, asked)
    progress.update(bar, completed=len(places))
    found: dict[str, dict[int, Any]] = {reference.task: {} for reference in references}
    for (reference, row), answer in zip(shuffled, answers, strict=True):
        found[reference.task][row] = answer
    for reference in references:
        ordered = _in_order(found[reference.task], reference.info)
        yield _comparison(tolerance, BANK, reference, ordered, "mixed tasks")


def _comparison(tolerance: Tolerance, form: str, reference: Reference, found: Answers, batching: str) -> Comparison:
    return reference.info.kind.compare(
        reference.task,
        form,
        reference.answers,
        found,
        tolerance,
        batching=batching,
        metrics_reference=reference.metrics,
        metrics_artifact=_metrics(reference.info, found, reference.rows.labels),
    )
