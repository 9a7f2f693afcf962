"""LoRA: a low-rank branch beside an attention projection, or merged into its matrix."""

from collections.abc import Mapping
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers.pytorch_utils import Conv1D

from propetl.errors import ConfigurationError
from propetl.families import Family, Projection
from propetl.prototypes.effective import EffectiveWeights, project
from propetl.prototypes.layer import HookedLayer, MethodLayer
from propetl.prototypes.layout import TaskLayout

WHOLE = Projection("")
"""A projection that has its module for itself."""


class LoraLayer(MethodLayer):
    """Runs beside the projections of each attention, or inside their matrices."""

    def attach(self, layer: HookedLayer) -> None:
        """Hooks at each module that makes a target.

        Raises:
            ConfigurationError: a matrix to merge into is not known here.
        """
        hook = _merge if layer.merge else _add
        for attention, slot in zip(layer.stack.attentions, layer.slots, strict=True):
            for path, places in attention.modules(layer.config.targets).items():
                hook(layer, path, places, slot)

    def merged_size(self, layout: TaskLayout, family: Family) -> int:
        """Weights of the modules that make targets; a fused one owns those of its other projections, too."""
        targets = layout.config.targets
        modules = family.stacks[0].attentions[0].modules(targets)
        share = sum(next(iter(places.values())).parts for places in modules.values()) / len(targets)
        outputs = sum(tensor.slots * tensor.shape[0] for tensor in layout.tensors if tensor.name.endswith(".b"))
        return int(outputs * share) * layout.hidden_size


def _add(layer: HookedLayer, path: str, places: Mapping[str, Projection], slot: int) -> None:
    """Puts the branch of each target beside the module that makes them."""
    scale = layer.config.lora_scale

    def add_branches(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights = layer.current()
        if weights is None:
            return output
        for target, place in places.items():
            output = output + branch(arguments[0], weights, target, slot, scale, place)
        return output

    layer.module.get_submodule(path).register_forward_hook(add_branches)


def _merge(layer: HookedLayer, path: str, places: Mapping[str, Projection], slot: int) -> None:
    """Adds the pairs of all targets to the one matrix of the module that makes them."""
    scale = layer.config.lora_scale
    _matrix_of(layer.module.get_submodule(path), path)  # refused now, and not in the middle of a trace

    def project_merged(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights = layer.current()
        if weights is None:
            return output
        merged = _matrix_of(module, path)
        for target, place in places.items():
            merged = merged + delta(weights, target, slot, scale, place)
        return functional.linear(arguments[0], merged, cast(Tensor | None, module.bias))

    layer.module.get_submodule(path).register_forward_hook(project_merged)


def _matrix_of(module: nn.Module, path: str) -> Tensor:
    """The matrix of a projection, ``[out, in]``; GPT-2's ``Conv1D`` holds it the other way round."""
    if isinstance(module, nn.Linear):
        return module.weight
    if isinstance(module, Conv1D):
        return module.weight.T
    raise ConfigurationError(
        f"LoRA cannot be merged into {path}, a {type(module).__name__}: its matrix is not known here; "
        "leave --merge-weights out"
    )


def branch(
    hidden: Tensor, weights: EffectiveWeights, target: str, slot: int, scale: float, place: Projection = WHOLE
) -> Tensor:
    """``scale * B(A(x))`` at the outputs of ``place``, zeros at the others of its module.

    Hidden ``[batch, seq, in]`` to ``[batch, seq, parts * out]``.
    """
    low = project(hidden, weights.at(f"{target}.a", slot))  # [batch, seq, rank]
    added = scale * project(low, weights.at(f"{target}.b", slot))  # [batch, seq, out]
    return added if place.parts == 1 else functional.pad(added, _around(place, added.shape[-1]))


def delta(weights: EffectiveWeights, target: str, slot: int, scale: float, place: Projection = WHOLE) -> Tensor:
    """``scale * B A`` in the rows of ``place``, zeros in the others of its module: ``[parts * out, in]``.

    Added to the module's matrix it makes the same function as the branch, for graphs where masks become constants.
    """
    product = scale * torch.matmul(weights.at(f"{target}.b", slot), weights.at(f"{target}.a", slot))  # [out, in]
    return product if place.parts == 1 else functional.pad(product, (0, 0, *_around(place, product.shape[-2])))


def _around(place: Projection, size: int) -> tuple[int, int]:
    """How many outputs of the module stand before and behind those of ``place``, which are ``size``."""
    return place.part * size, (place.parts - 1 - place.part) * size
