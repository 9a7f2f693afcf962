"""An encoder's checkpoint to what a bundle holds: one task."""

from pathlib import Path

import propetl
from propetl.backbone import load_backbone
from propetl.bundle.writer import BundleContents, TaskContents
from propetl.data.tasks import TASKS
from propetl.errors import BundleError, TaskError
from propetl.lengths import check_lengths
from propetl.reference_import.encoder_files import EncoderFiles, read_encoder_files
from propetl.reference_import.encoder_head import imported_head, task_info_of
from propetl.reference_import.encoder_methods import imported_method
from propetl.reference_import.options import Converted, ImportOptions
from propetl.reference_import.samples import sample_rows
from propetl.task import TaskSpec, check_task_name


def convert_encoder(path: Path, options: ImportOptions) -> Converted:
    """The checkpoint in folder ``path``, or in the one folder of an adapter in it.

    Raises:
        BundleError: a file is missing or damaged, or holds what cannot be imported.
        ConfigurationError: the backbone cannot be loaded.
        TaskError: the adapter's name cannot be a task's.
    """
    files = read_encoder_files(path)
    task = _task_name(files, options)
    backbone = load_backbone(_backbone_name(files, options), allow_pickle=options.allow_pickle)
    method = imported_method(files, backbone, options.sparsity)
    head = imported_head(files, backbone.family)
    info = task_info_of(task, head.labels, options.columns)
    check_lengths(backbone, options.max_length, {})
    samples = sample_rows(backbone, info, options.max_length)
    contents = BundleContents(
        backbone=backbone.info,
        config=method.config,
        head=head.kind,
        max_length=options.max_length,
        prototype=method.prototype,
        tasks={task: TaskContents(info, method.masks, method.weights, head.tensors, samples)},
        tokenizer=backbone.tokenizer_files,
        created_by=f"propetl {propetl.__version__}, imported",
    )
    return Converted(contents, tuple(files.unused()), tuple(_assumed(files, task, info, options)))


def _task_name(files: EncoderFiles, options: ImportOptions) -> str:
    try:
        return check_task_name(options.task or files.name)
    except TaskError as error:
        raise TaskError(f"{error}; give it another with --task") from error


def _backbone_name(files: EncoderFiles, options: ImportOptions) -> str:
    name = options.backbone or files.model_name
    if not name:
        raise BundleError(f"{files.folder}: it does not say which backbone it was trained on; name it with --backbone")
    return name


def _assumed(files: EncoderFiles, task: str, info: TaskSpec, options: ImportOptions) -> list[str]:
    lines = [f"texts are truncated to {options.max_length} tokens (--max-length)", "sample rows are made up"]
    if task not in TASKS or info.columns != TASKS[task].columns:
        columns = ", ".join(info.columns)
        lines.append(f"task {task} has the columns {columns} (--column) and the metric {info.metrics[0]}")
    if files.masks is not None and options.sparsity is None and files.masks.holds_scores:
        lines.append("masks stand there as scores without their sparsity, which was taken as 1.0 (--sparsity)")
    return lines
