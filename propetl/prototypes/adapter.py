"""The bottleneck adapter, as the reference implementation computes it."""

from collections.abc import Callable
from functools import partial

import torch
from torch import Tensor
from torch.nn import functional

from propetl.prototypes.effective import EffectiveWeights, project

ACTIVATIONS: dict[str, Callable[[Tensor], Tensor]] = {
    "relu": functional.relu,
    "gelu": functional.gelu,
    "gelu_new": partial(functional.gelu, approximate="tanh"),
    "tanh": torch.tanh,
    "silu": functional.silu,
}


def adapted(hidden: Tensor, inner: Tensor, weights: EffectiveWeights, slot: int, activation: str) -> Tensor:
    """``up(act(down(x))) + h``, to which the backbone then adds the residual.

    Args:
        hidden: ``h``, output of the sub-layer's last projection ``[batch, seq, hidden]``.
        inner: ``x``, what the adapter reads: made of ``h`` and the residual ``r``, by the kind of the layer
            (see :func:`propetl.attach.adapter_input`); ``[batch, seq, hidden]``.
        weights: the task's effective weights.
        slot: where in the backbone this is.
        activation: key of :data:`ACTIVATIONS`.

    Returns:
        ``[batch, seq, hidden]``, to stand in for ``h``.
    """
    down = project(inner, weights.at("down.weight", slot), weights.at("down.bias", slot))
    up = project(ACTIVATIONS[activation](down), weights.at("up.weight", slot), weights.at("up.bias", slot))
    return up + hidden
