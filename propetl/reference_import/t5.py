"""A T5 checkpoint to what a bundle holds."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import propetl
from propetl.backbone import load_backbone
from propetl.bundle.prototype import SharedMasks
from propetl.bundle.writer import BundleContents, TaskContents
from propetl.data.answer_words import check_answers
from propetl.data.tasks import TASKS
from propetl.errors import BundleError, ConfigurationError
from propetl.lengths import check_lengths
from propetl.problems.text import text_of
from propetl.prototypes.adapter.specification import Activation
from propetl.prototypes.spec import Combination, PrototypeConfig
from propetl.reference_import.masks import as_mask, packed, sparsity_of
from propetl.reference_import.method import Floats, floats
from propetl.reference_import.options import Converted, ImportOptions
from propetl.reference_import.samples import sample_rows
from propetl.reference_import.t5_weights import LAYER, T5Weights, read_t5_weights
from propetl.reference_import.text_task import KNOWN, text_task
from propetl.task import TaskSpec, check_task_name
from propetl.training.tasks import tokenizer_of

Masks = dict[str, NDArray[np.uint8]]

# Of the published runs; the file says neither.
_ACTIVATION: Activation = "gelu_new"
_COMBINE: Combination = "or"


@dataclass(frozen=True)
class ImportedT5:
    """One prototype, or one each for encoder and decoder, with the masks of all tasks.

    Attributes:
        config: the method.
        prototype: shared tensors float32 ``[*shape]``.
        shared_masks: of the layers, of a hybrid prototype.
        masks: by task, packed uint8 ``[bytes]`` for all slots, or ``[slots, bytes]``.
    """

    config: PrototypeConfig
    prototype: Floats
    shared_masks: SharedMasks
    masks: dict[str, Masks]


def convert_t5(path: Path, options: ImportOptions) -> Converted:
    """The checkpoint in the file ``path``: all of its tasks.

    Raises:
        BundleError: the file is damaged, or holds what cannot be imported.
        ConfigurationError: no backbone is named, or it is not T5; or ``--task`` is given.
        TaskError: a task's name in the file cannot be one here.
    """
    if options.backbone is None:
        raise ConfigurationError(f"{path}: it does not say which T5 it was trained on; name it with --backbone")
    if options.task is not None:
        raise ConfigurationError(f"--task: {path.name} names its tasks itself; leave it out")
    backbone = load_backbone(options.backbone, allow_pickle=options.allow_pickle)
    if backbone.info.family not in ("t5", "mt5"):
        raise ConfigurationError(f"{path}: it was trained on a T5 or mT5; {options.backbone} is {backbone.info.family}")
    weights = read_t5_weights(path, backbone.info)
    imported = imported_t5(weights, options.combine or _COMBINE, options.sparsity)
    tokenizer = tokenizer_of(backbone).limited(options.max_length)
    infos = {check_task_name(task): text_task(task, options.columns, tokenizer) for task in weights.tasks}
    check_lengths(backbone, options.max_length, {task: info.text for task, info in infos.items()})
    for task, info in infos.items():
        tokenizer.check_prompt(task, text_of(info))
        check_answers(task, text_of(info), tokenizer)
    tasks = {
        task: TaskContents(info, imported.masks[task], {}, {}, sample_rows(backbone, info, options.max_length))
        for task, info in infos.items()
    }
    contents = BundleContents(
        backbone=backbone.info,
        config=imported.config,
        head="linear",
        max_length=options.max_length,
        prototype=imported.prototype,
        tasks=tasks,
        tokenizer=backbone.tokenizer_files,
        created_by=f"propetl {propetl.__version__}, imported",
        shared_masks=imported.shared_masks,
    )
    return Converted(contents, tuple(weights.unused()), tuple(_assumed(weights, infos, options)))


def _assumed(weights: T5Weights, infos: Mapping[str, TaskSpec], options: ImportOptions) -> list[str]:
    lines = [f"prompts are truncated to {options.max_length} tokens (--max-length)", "sample rows are made up"]
    lines.append(f"the adapter's activation is {_ACTIVATION}, as in the published runs")
    if weights.hybrid and options.combine is None:
        lines.append(f"layer and task masks are combined by {_COMBINE} (--combine)")
    for task, info in infos.items():
        if options.columns or task not in KNOWN.keys() | TASKS.keys():
            lines.append(f"task {task} is asked {text_of(info).prompt!r} (--column) and answered by any text")
    if options.sparsity is None and weights.holds_scores:
        lines.append("masks stand there as scores without their sparsity, which was taken as 1.0 (--sparsity)")
    return lines


def imported_t5(weights: T5Weights, combine: Combination, sparsity: float | None) -> ImportedT5:
    """What the file holds, as a bundle keeps it.

    Args:
        weights: the file.
        combine: how layer and task masks become one, which the file does not say.
        sparsity: of masks that stand there as scores.

    Raises:
        BundleError: a tensor is missing or does not fit.
    """
    prototype = weights.prototype()
    kept = sparsity or 1.0
    if weights.hybrid:
        tasks = {task: _packed_once(weights.task_masks(task), prototype, kept, weights) for task in weights.tasks}
        layers = _packed_slots(weights.slot_masks(LAYER), prototype, kept, weights)
    else:
        tasks = {task: _packed_slots(weights.slot_masks(task), prototype, kept, weights) for task in weights.tasks}
        layers = {}
    sizes = {name: tensor.numel() for name, tensor in prototype.items()}
    first = layers or tasks[weights.tasks[0]]
    config = PrototypeConfig(
        "adapter",
        scope="model" if "" in weights.places else "stack",
        masks="hybrid" if weights.hybrid else "layer",
        combine=combine,
        sparsity=sparsity_of(first, sizes, str(weights.checkpoint.source)),
        bottleneck=next(iter(prototype.values())).shape[0],
        activation=_ACTIVATION,
    )
    return ImportedT5(config, floats(prototype), SharedMasks(layers), tasks)


def _packed_once(
    masks: Mapping[str, Tensor], prototype: Mapping[str, Tensor], kept: float, weights: T5Weights
) -> Masks:
    slots = {name: [mask] for name, mask in masks.items()}
    return {name: mask[0] for name, mask in _packed_slots(slots, prototype, kept, weights).items()}


def _packed_slots(
    masks: Mapping[str, list[Tensor]], prototype: Mapping[str, Tensor], kept: float, weights: T5Weights
) -> Masks:
    for name, slots in masks.items():
        for mask in slots:
            if mask.shape != prototype[name].shape:
                raise BundleError(
                    f"{weights.checkpoint.source}: a mask of {name} has shape {list(mask.shape)}, expected "
                    f"{list(prototype[name].shape)}"
                )
    return {name: packed([as_mask(mask, kept) for mask in slots]) for name, slots in masks.items()}
