"""The bottleneck adapter, as the reference implementation places it in encoders."""

from collections.abc import Callable

import torch
from torch import Tensor
from torch.nn import functional

from propetl.prototypes.effective import EffectiveWeights, project

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "tanh": torch.tanh,
    "silu": functional.silu,
}


def adapted(
    hidden: Tensor,
    residual: Tensor,
    layer_norm: Callable[[Tensor], Tensor],
    weights: EffectiveWeights,
    slot: int,
    activation: str,
) -> Tensor:
    """``up(act(down(LN(h + r)))) + h``; the backbone then computes ``LN(. + r)`` with the same LayerNorm.

    Args:
        hidden: ``h``, output of the sub-layer's last projection ``[batch, seq, hidden]``.
        residual: ``r``, what the backbone adds next ``[batch, seq, hidden]``.
        layer_norm: the backbone's LayerNorm of this sub-layer.
        weights: the task's effective weights.
        slot: where in the backbone this is.
        activation: key of :data:`ACTIVATIONS`.

    Returns:
        ``[batch, seq, hidden]``, to stand in for ``h``.
    """
    inner = layer_norm(hidden + residual)
    down = project(inner, weights.at("down.weight", slot), weights.at("down.bias", slot))
    up = project(ACTIVATIONS[activation](down), weights.at("up.weight", slot), weights.at("up.bias", slot))
    return up + hidden
