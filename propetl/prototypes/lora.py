"""LoRA: a low-rank branch beside an attention projection, or merged into its matrix."""

import torch
from torch import Tensor, nn
from torch.nn import functional

from propetl.prototypes.effective import EffectiveWeights, project


def branch(hidden: Tensor, weights: EffectiveWeights, target: str, slot: int, scale: float) -> Tensor:
    """``scale * B(A(x))``: hidden ``[batch, seq, in]`` to ``[batch, seq, out]``."""
    low = project(hidden, weights.at(f"{target}.a", slot))  # [batch, seq, rank]
    return scale * project(low, weights.at(f"{target}.b", slot))


def merged(hidden: Tensor, base: nn.Linear, weights: EffectiveWeights, target: str, slot: int, scale: float) -> Tensor:
    """``(W + scale * B A) x + b``: the same function as the branch, for graphs where masks become constants."""
    delta = torch.matmul(weights.at(f"{target}.b", slot), weights.at(f"{target}.a", slot))
    return functional.linear(hidden, base.weight + scale * delta, base.bias)
