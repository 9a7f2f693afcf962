"""Masks: the top-k of |score|, with a straight-through gradient (paper section 3.2), and their combination."""

from collections.abc import Sequence
from functools import reduce
from operator import add, mul
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.autograd.function import FunctionCtx

from propetl.bits import pack
from propetl.prototypes.spec import Combination


def kept_count(count: int, sparsity: float) -> int:
    """Ones in a mask over ``count`` weights: ``n - int((1 - k) * n)``, as in the reference implementation."""
    return count - int((1 - sparsity) * count)


def top_k_mask(magnitudes: Tensor, kept: int) -> Tensor:
    """Marks the ``kept`` largest entries along the last axis.

    A selection finds the smallest kept value, so nothing is sorted. Entries equal to it are taken from the
    lowest index on, which makes the count exact and ties the same on every device.

    Args:
        magnitudes: float ``[..., n]`` without NaN.
        kept: ones per row, in ``[0, n]``.

    Returns:
        bool ``[..., n]``.
    """
    count = magnitudes.shape[-1]
    if kept == 0:
        return torch.zeros_like(magnitudes, dtype=torch.bool)
    threshold = torch.kthvalue(magnitudes, count - kept + 1, dim=-1, keepdim=True).values
    above = magnitudes > threshold
    tied = magnitudes == threshold
    still_needed = kept - above.sum(dim=-1, keepdim=True)
    return above | (tied & (tied.cumsum(dim=-1) <= still_needed))


class StraightThroughTopK(torch.autograd.Function):
    """Top-k mask of |score| forward; backward passes the mask's gradient to |score| unchanged.

    With mask ``m`` and score ``s``: ``dL/ds = dL/dm * sign(s)``.
    """

    @staticmethod
    def forward(ctx: Any, scores: Tensor, kept: int) -> Tensor:
        """Scores float ``[..., n]`` to a mask of zeros and ones in the same type."""
        ctx.save_for_backward(scores)
        return top_k_mask(scores.abs(), kept).to(scores.dtype)

    @staticmethod
    def backward(ctx: FunctionCtx, *gradients: Any) -> tuple[Tensor, None]:
        """Gradient of the mask ``[..., n]`` to gradient of the scores ``[..., n]``."""
        (scores,) = ctx.saved_tensors  # type: ignore[attr-defined]  # set by save_for_backward
        return gradients[0] * scores.sign(), None


def mask_of_scores(scores: Tensor, sparsity: float) -> Tensor:
    """Differentiable mask per slot: float scores ``[slots, *shape]`` to zeros and ones of that shape."""
    flat = scores.flatten(1)  # [slots, n]
    kept = kept_count(flat.shape[1], sparsity)
    mask: Tensor = StraightThroughTopK.apply(flat, kept)  # type: ignore[no-untyped-call]  # torch leaves it untyped
    return mask.view_as(scores)


def packed_mask_of_scores(scores: Tensor, sparsity: float) -> NDArray[np.uint8]:
    """The same mask as bits: uint8 ``[slots, ceil(n / 8)]``."""
    flat = scores.detach().flatten(1)
    mask = top_k_mask(flat.abs(), kept_count(flat.shape[1], sparsity))
    return pack(mask.cpu().numpy())


def combined(rule: Combination, masks: Sequence[Tensor]) -> Tensor:
    """Masks of layer, language and task as one.

    ``or`` is the product form ``1 - (1 - a)(1 - b)``, so a mask learns where no other one keeps the weight already;
    ``and`` is ``a b``; ``add`` is ``a + b``, which counts the masks that keep a weight.

    Args:
        rule: one of the three.
        masks: zeros and ones, at least one mask; shapes broadcast.

    Returns:
        Zeros and ones, or counts, in the shape that all masks broadcast to.
    """
    if len(masks) == 1:
        return masks[0]
    if rule == "or":
        return 1 - reduce(mul, [1 - mask for mask in masks])
    return reduce(mul if rule == "and" else add, masks)


def initial_scores(slots: int, shape: tuple[int, ...]) -> Tensor:
    """Kaiming-uniform scores with ``a = sqrt(5)``, that is uniform in ``±1 / sqrt(fan in)``: ``[slots, *shape]``."""
    bound = shape[-1] ** -0.5
    return torch.empty(slots, *shape).uniform_(-bound, bound)
