"""LoRA: a low-rank branch beside an attention projection, or merged into its matrix."""

import torch
from torch import Tensor
from torch.nn import functional

from propetl.families import Projection
from propetl.prototypes.effective import EffectiveWeights, project

WHOLE = Projection("")
"""A projection that has its module for itself."""


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
