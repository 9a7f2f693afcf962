"""The bottleneck adapter, as the reference implementation computes it."""

from collections.abc import Callable
from typing import Any, cast

from torch import Tensor, nn

from propetl.activations import ACTIVATIONS
from propetl.families import SubLayer
from propetl.prototypes.effective import EffectiveWeights, project
from propetl.prototypes.layer import HookedLayer, MethodLayer


class AdapterLayer(MethodLayer):
    """Runs behind the last module of each site's sub-layer."""

    def attach(self, layer: HookedLayer) -> None:
        """Hooks at each of its sites."""
        sub_layers = {"attention": layer.stack.attention, "ffn": layer.stack.ffn}
        for site, slot in zip(layer.config.sites, layer.slots, strict=True):
            _attach(layer, sub_layers[site], slot)


def _attach(layer: HookedLayer, place: SubLayer, slot: int) -> None:
    read = _input_of(layer, place)
    residual: list[Tensor] = []

    def remember_residual(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        values = [*arguments, *keywords.values()]
        residual[:] = [values[place.residual_argument]]

    def adapt(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights, added_next = layer.current(), residual.pop()
        if weights is None:
            return output
        return adapted(output, read(output, added_next), weights, slot, layer.config.activation)

    layer.module.get_submodule(place.residual).register_forward_pre_hook(remember_residual, with_kwargs=True)
    layer.module.get_submodule(place.output).register_forward_hook(adapt)


def _input_of(layer: HookedLayer, place: SubLayer) -> Callable[[Tensor, Tensor], Tensor]:
    """What the adapter reads at ``place``, from ``h`` and the residual ``r``, as in the reference implementation.

    Post-norm layers: ``LN(h + r)``. Pre-norm layers (its T5): ``h + r`` for an adapter after the FFN alone
    (Pfeiffer), ``h`` for one after attention and FFN (Houlsby).
    """
    if place.layer_norm is not None:
        layer_norm = layer.module.get_submodule(place.layer_norm)
        return lambda hidden, residual: cast(Tensor, layer_norm(hidden + residual))
    if layer.config.sites == ("ffn",):
        return lambda hidden, residual: hidden + residual
    return lambda hidden, residual: hidden


def adapted(hidden: Tensor, inner: Tensor, weights: EffectiveWeights, slot: int, activation: str) -> Tensor:
    """``up(act(down(x))) + h``, to which the backbone then adds the residual.

    Args:
        hidden: ``h``, output of the sub-layer's last projection ``[batch, seq, hidden]``.
        inner: ``x``, what the adapter reads: made of ``h`` and the residual ``r``, by the kind of the layer
            (see :func:`_input_of`); ``[batch, seq, hidden]``.
        weights: the task's effective weights.
        slot: where in the backbone this is.
        activation: key of :data:`ACTIVATIONS`.

    Returns:
        ``[batch, seq, hidden]``, to stand in for ``h``.
    """
    down = project(inner, weights.at("down.weight", slot), weights.at("down.bias", slot))
    up = project(ACTIVATIONS[activation](down), weights.at("up.weight", slot), weights.at("up.bias", slot))
    return up + hidden
