"""Attention over a prefix and a text: every token may attend to the prefix."""

import torch
from torch import Tensor
from torch.nn import functional


def keys_and_values(prefix: Tensor, heads: int) -> tuple[Tensor, Tensor]:
    """Splits a prefix ``[P, 2 * width]`` (or ``[batch, P, 2 * width]``) into keys and values of ``heads`` heads.

    Returns:
        Two tensors ``[1 or batch, heads, P, head size]``; the first half of the columns are the keys.
    """
    rows = prefix if prefix.dim() == 3 else prefix.unsqueeze(0)  # [batch, P, 2 * width]
    batch, length, double = rows.shape
    split = rows.view(batch, length, 2, heads, double // 2 // heads).permute(2, 0, 3, 1, 4)
    return split[0], split[1]


def attend(
    query: Tensor,
    key: Tensor,
    value: Tensor,
    prefix: tuple[Tensor, Tensor],
    mask: Tensor | None,
    scale: float,
    dropout: float,
    groups: int = 1,
) -> Tensor:
    """Attention over prefix and text.

    Args:
        query: ``[batch, heads, seq, head size]``; ``key`` and ``value`` likewise, with ``heads / groups`` heads.
        prefix: keys and values ``[1 or batch, heads / groups, P, head size]``.
        mask: bool (True = attend) or additive float, ``[batch, 1 or heads, 1 or seq, seq]``; None attends to all.
        scale: factor on the products of queries and keys.
        dropout: probability of dropping an attention weight.
        groups: heads of queries that share one head of keys and values.

    Returns:
        ``[batch, heads, seq, head size]``.
    """
    batch = query.shape[0]
    prefix_keys, prefix_values = (part.expand(batch, -1, -1, -1) for part in prefix)
    length = prefix_keys.shape[2]
    if mask is not None:
        mask = functional.pad(mask, (length, 0), value=True if mask.dtype == torch.bool else 0.0)
    keys, values = torch.cat([prefix_keys, key], dim=2), torch.cat([prefix_values, value], dim=2)
    if groups > 1:
        keys, values = (part.repeat_interleave(groups, dim=1) for part in (keys, values))
    return functional.scaled_dot_product_attention(
        query,
        keys,
        values,
        attn_mask=mask,
        dropout_p=dropout,
        scale=scale,
    )
