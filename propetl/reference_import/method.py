"""What a checkpoint's method becomes in a bundle."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from propetl.prototypes.spec import PrototypeConfig

Floats = dict[str, NDArray[np.float32]]


@dataclass(frozen=True)
class ImportedMethod:
    """One method with one task's share of it, by the names of the prototype's tensors.

    Attributes:
        config: the method.
        prototype: shared tensors float32 ``[*shape]``; empty if unshared.
        masks: packed uint8 ``[slots, bytes]``; empty if unshared.
        weights: the unshared task's float32 ``[slots, *shape]``; empty if masked.
    """

    config: PrototypeConfig
    prototype: Floats = field(default_factory=dict)
    masks: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    weights: Floats = field(default_factory=dict)


def floats(tensors: Mapping[str, Tensor]) -> Floats:
    """As numpy float32."""
    return {name: tensor.detach().float().contiguous().numpy() for name, tensor in tensors.items()}


def stacked(tensors: Mapping[str, Sequence[Tensor]]) -> Floats:
    """One tensor for each slot to ``[slots, *shape]``."""
    return floats({name: torch.stack(list(slots)) for name, slots in tensors.items()})
