"""From a checkpoint of the reference implementation to a bundle."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

import propetl
from propetl.backbone import Backbone, load_backbone
from propetl.bundle.format import BundleInfo, TaskInfo, check_task_name
from propetl.bundle.writer import BundleContents, TaskContents, write_bundle
from propetl.data.tasks import TASKS
from propetl.errors import BundleError, ConfigurationError
from propetl.reference_import.encoder_files import EncoderFiles, read_encoder_files
from propetl.reference_import.encoder_head import ImportedHead, imported_head, task_info_of
from propetl.reference_import.encoder_methods import imported_method
from propetl.reference_import.method import ImportedMethod
from propetl.training.tasks import tokenizer_of

# Rows of which a bundle keeps the token ids: a checkpoint has no data, and golden rows need some text.
_LEFT = (
    "The committee has not reached a decision yet.",
    "A man is playing a guitar on the street.",
    "It rained all night, but the river stayed low.",
    "Prices rose by three percent in March.",
)
_RIGHT = (
    "A decision was made by the committee.",
    "Somebody makes music outside.",
    "The river did not rise although it rained.",
    "In March, things became cheaper.",
)

Report = Callable[[str], None]


@dataclass(frozen=True)
class ImportOptions:
    """What a checkpoint does not say.

    Attributes:
        backbone: where to load the backbone from; None takes the name in the checkpoint.
        task: name of the task in the bundle; None takes the adapter's.
        columns: text columns of a task that is not known by name.
        sparsity: of masks that stand in the file as scores without their sparsity.
        max_length: tokens to which texts are truncated.
        overwrite: replace a bundle that is there.
    """

    backbone: str | None = None
    task: str | None = None
    columns: tuple[str, ...] = ()
    sparsity: float | None = None
    max_length: int = 128
    overwrite: bool = False

    def __post_init__(self) -> None:
        if self.sparsity is not None and not 0.0 < self.sparsity <= 1.0:
            raise ConfigurationError(f"--sparsity is the share of weights kept and lies in (0, 1]; got {self.sparsity}")
        if self.max_length < 4:
            raise ConfigurationError(f"--max-length must be at least 4; got {self.max_length}")
        if len(self.columns) > 2:
            raise ConfigurationError(f"--column: a task has one or two text columns; got {', '.join(self.columns)}")


@dataclass(frozen=True)
class Imported:
    """What was imported.

    Attributes:
        info: the bundle's.
        not_mapped: tensors of the checkpoint that have no place in the bundle, with their files.
        assumed: what the checkpoint does not say, and what was taken for it.
    """

    info: BundleInfo
    not_mapped: tuple[str, ...]
    assumed: tuple[str, ...]


def import_checkpoint(path: Path, output: Path, options: ImportOptions, report: Report = lambda line: None) -> Imported:
    """Writes the bundle of the checkpoint in folder ``path``; it appears whole at ``output`` or not at all.

    Args:
        path: folder that holds ``adapter_config.json``, or the run folder around it.
        output: folder of the bundle.
        options: what the checkpoint does not say.
        report: called with a line about each step.

    Raises:
        BundleError: a file is missing or damaged, or holds what cannot be imported.
        ConfigurationError: the backbone cannot be loaded, or ``output`` exists.
        TaskError: the adapter's name cannot be a task's.
    """
    report("reading the checkpoint")
    files = read_encoder_files(path)
    task = check_task_name(options.task or files.name)
    report("loading the backbone")
    backbone = load_backbone(_backbone_name(files, options))
    report("converting")
    method = imported_method(files, backbone, options.sparsity)
    head = imported_head(files, backbone.family)
    info = task_info_of(task, head.labels, options.columns)
    contents = _contents(backbone, method, head, task, info, options.max_length)
    report("writing the bundle")
    written = write_bundle(output, contents, overwrite=options.overwrite)
    return Imported(written, tuple(files.unused()), tuple(_assumed(files, task, info, options)))


def _backbone_name(files: EncoderFiles, options: ImportOptions) -> str:
    name = options.backbone or files.model_name
    if not name:
        raise BundleError(f"{files.folder}: it does not say which backbone it was trained on; name it with --backbone")
    return name


def _contents(
    backbone: Backbone, method: ImportedMethod, head: ImportedHead, task: str, info: TaskInfo, max_length: int
) -> BundleContents:
    return BundleContents(
        backbone=backbone.info,
        config=method.config,
        head=head.kind,
        max_length=max_length,
        prototype=method.prototype,
        tasks={
            task: TaskContents(
                info=info,
                masks=method.masks,
                weights=method.weights,
                head=head.tensors,
                samples=sample_rows(backbone, len(info.columns), max_length),
            )
        },
        tokenizer=backbone.tokenizer_files,
        created_by=f"propetl {propetl.__version__}, imported",
    )


def sample_rows(backbone: Backbone, columns: int, max_length: int) -> dict[str, NDArray[np.int64]]:
    """Token ids of a few sentences, or pairs of them, by model input ``[rows, longest]``."""
    tokenizer = tokenizer_of(backbone)
    texts = [list(_LEFT), list(_RIGHT)][:columns]
    encoded = tokenizer(*texts, truncation="longest_first", max_length=max_length, padding=True, return_tensors="np")
    return {name: encoded[name].astype(np.int64) for name in tokenizer.model_input_names}


def _assumed(files: EncoderFiles, task: str, info: TaskInfo, options: ImportOptions) -> list[str]:
    lines = [f"texts are truncated to {options.max_length} tokens (--max-length)", "sample rows are made up"]
    if task not in TASKS or info.columns != TASKS[task].columns:
        columns = ", ".join(info.columns)
        lines.append(f"task {task} has the columns {columns} (--column) and the metric {info.metrics[0]}")
    if files.masks is not None and options.sparsity is None and _are_scores(files):
        lines.append("masks stand there as scores without their sparsity, which was taken as 1.0 (--sparsity)")
    return lines


def _are_scores(files: EncoderFiles) -> bool:
    return files.masks is not None and any(value.is_floating_point() for value in files.masks.tensors.values())
