"""(IA)³: keys, values and the FFN's inner values times learned scales."""

from collections.abc import Mapping
from typing import Any

from torch import Tensor, nn
from torch.nn import functional

from propetl.families import Projection
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.layer import HookedLayer, MethodLayer

SCALED = ("key", "value")
"""Projections whose outputs are scaled: before rotary positions and caches, so a cache holds scaled keys."""

WHOLE = Projection("")
"""A projection that has its module for itself, and all inputs of a module."""


class Ia3Layer(MethodLayer):
    """Scales what the projections of keys and values give, and what the FFN's last projection takes."""

    def attach(self, layer: HookedLayer) -> None:
        """Hooks at each attention, and at the FFN."""
        for attention, slot in zip(layer.stack.attentions, layer.slots, strict=True):
            for path, places in attention.modules(SCALED).items():
                _scale_outputs(layer, path, places, slot)
        _scale_ffn(layer)


def _scale_outputs(layer: HookedLayer, path: str, places: Mapping[str, Projection], slot: int) -> None:
    """Scales the outputs of one module, which makes keys, values, or both beside queries."""

    def scale(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights = layer.current()
        if weights is None:
            return output
        for target, place in places.items():
            output = scaled(output, weights, target, slot, place)
        return output

    layer.module.get_submodule(path).register_forward_hook(scale)


def _scale_ffn(layer: HookedLayer) -> None:
    def scale(module: nn.Module, arguments: tuple[Any, ...]) -> tuple[Any, ...]:
        weights = layer.current()
        if weights is None:
            return arguments
        inner, *others = arguments
        return (scaled(inner, weights, "ffn", layer.number), *others)

    layer.module.get_submodule(layer.stack.ffn_out).register_forward_pre_hook(scale)


def scaled(hidden: Tensor, weights: EffectiveWeights, name: str, slot: int, place: Projection = WHOLE) -> Tensor:
    """``hidden * (1 + deviation)`` at the outputs of ``place``; others of its module stay as they are.

    Hidden is ``[batch, seq, parts * width]``; the deviation ``[width]``, or ``[batch, width]`` with weights per row.
    """
    deviation = weights.at(name, slot)
    width = deviation.shape[-1]
    if place.parts > 1:
        deviation = functional.pad(deviation, (place.part * width, (place.parts - 1 - place.part) * width))
    scale = 1 + deviation
    return hidden * (scale.unsqueeze(1) if scale.dim() == 2 else scale)  # [batch, 1, width] or [width]
