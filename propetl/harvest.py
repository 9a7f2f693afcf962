"""From a trained model to what a bundle is written from."""

import dataclasses
from collections.abc import Mapping

import numpy as np
from numpy.typing import NDArray
from torch import Tensor

import propetl
from propetl.bundle.prototype import SharedMasks
from propetl.bundle.tensors import Arrays
from propetl.bundle.writer import BundleContents, TaskContents
from propetl.model import ProPETLModel

Samples = Mapping[str, Arrays]
Scores = Mapping[str, dict[str, float]]


def bundle_contents(model: ProPETLModel, max_length: int, samples: Samples, scores: Scores) -> BundleContents:
    """Everything of ``model`` that a bundle keeps.

    Args:
        model: trained.
        max_length: tokens to which texts were cut.
        samples: per task, a few rows as token ids by model input.
        scores: per task, its metrics on the development rows.
    """
    return BundleContents(
        backbone=model.backbone.info,
        config=model.config,
        head=model.head_kind,
        max_length=max_length,
        prototype=_arrays(model.prototype.tensors()),
        tasks={task: task_contents(model, task, samples[task], scores.get(task, {})) for task in model.tasks},
        tokenizer=model.backbone.tokenizer_files,
        created_by=f"propetl {propetl.__version__}",
        shared_masks=_shared_masks(model),
    )


def task_contents(model: ProPETLModel, task: str, samples: Arrays, scores: dict[str, float]) -> TaskContents:
    """Masks (or weights), head and description of one task."""
    part = model.part_of(task)
    own = _arrays(part.own_weights())
    if model.config.specification.trains_backbone:
        own = {f"backbone.{name}": value for name, value in _arrays(dict(model.network.state_dict())).items()}
    return TaskContents(
        info=dataclasses.replace(model.infos[task], scores=dict(scores)),
        masks=part.packed_masks(),
        weights=own,
        head=_arrays(model.head_tensors(task)),
        samples=samples,
    )


def _shared_masks(model: ProPETLModel) -> SharedMasks:
    shared = model.shared_masks
    languages = {name: shared.language(name).packed() for name in shared.names}
    return SharedMasks({} if shared.layers is None else shared.layers.packed(), languages)


def _arrays(tensors: Mapping[str, Tensor]) -> dict[str, NDArray[np.float32]]:
    return {name: tensor.detach().float().cpu().numpy().copy() for name, tensor in tensors.items()}
