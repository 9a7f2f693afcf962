"""Masks of the reference's files, as bits."""

from collections.abc import Sequence

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from propetl.bits import count_ones, pack
from propetl.errors import BundleError
from propetl.masks import kept_count, top_k_mask

_DIGITS = range(1, 5)


def as_mask(values: Tensor, sparsity: float) -> Tensor:
    """A bool tensor of the same shape: bools as they are, scores by the top-k of |score| over the whole tensor."""
    if values.dtype == torch.bool:
        return values
    flat = values.float().abs().flatten()
    return top_k_mask(flat, kept_count(flat.numel(), sparsity)).view_as(values)


def packed(masks: Sequence[Tensor]) -> NDArray[np.uint8]:
    """One bool tensor for each slot to uint8 ``[slots, bytes]``."""
    return pack(torch.stack([mask.reshape(-1) for mask in masks]).numpy())


def sparsity_of(masks: dict[str, NDArray[np.uint8]], sizes: dict[str, int], source: str) -> float:
    """Share of weights that packed ``masks`` keep, as the round number that it was trained with, if that fits.

    The reference's adapter files do not say it: it follows from the number of ones.

    Raises:
        BundleError: they keep nothing.
    """
    ones = {name: count_ones(mask) for name, mask in masks.items()}
    share = sum(int(counts.sum()) for counts in ones.values()) / sum(
        sizes[name] * len(counts) for name, counts in ones.items()
    )
    if not share:
        raise BundleError(f"{source}: its masks keep no weight")
    for stated in (round(share, digits) for digits in _DIGITS):
        if stated and all((counts == kept_count(sizes[name], stated)).all() for name, counts in ones.items()):
            return stated
    return share
