"""The weights that run at a slot, whatever they were made from."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import torch
from torch import Tensor
from torch.nn import functional


@dataclass(frozen=True)
class EffectiveWeights:
    """Weights of one task (or of one task per row) for all slots.

    Attributes:
        per_slot: by name, ``[slots, *shape]``; with ``rows``, ``[batch, slots, *shape]``.
        shared: by name, ``[*shape]``: the same at every slot, such as the masked adapter's biases; with ``rows``
            it may have a leading ``batch``.
        rows: whether each row of the batch has weights of its own.
    """

    per_slot: Mapping[str, Tensor]
    shared: Mapping[str, Tensor] = field(default_factory=dict)
    rows: bool = False

    def of(self, prototype: str) -> "EffectiveWeights":
        """Those whose names start with ``prototype``, by the rest of their names: of one of several prototypes."""
        per_slot, shared = (
            {name.removeprefix(prototype): tensor for name, tensor in group.items() if name.startswith(prototype)}
            for group in (self.per_slot, self.shared)
        )
        return EffectiveWeights(per_slot, shared, self.rows)

    def at(self, name: str, slot: int) -> Tensor:
        """Weight ``name`` at ``slot``: ``[*shape]``, or ``[batch, *shape]`` with rows."""
        if name in self.shared:
            return self.shared[name]
        tensor = self.per_slot[name]
        return tensor[:, slot] if self.rows else tensor[slot]


def project(hidden: Tensor, weight: Tensor, bias: Tensor | None = None) -> Tensor:
    """Linear map of ``[batch, seq, in]`` by ``[out, in]``, or by ``[batch, out, in]`` with a weight per row.

    Returns:
        ``[batch, seq, out]``.
    """
    if weight.dim() == 2:
        return functional.linear(hidden, weight, bias)
    product = torch.matmul(hidden, weight.transpose(-1, -2))
    if bias is None:
        return product
    return product + (bias.unsqueeze(1) if bias.dim() == 2 else bias)  # [batch, 1, out] or [out]
