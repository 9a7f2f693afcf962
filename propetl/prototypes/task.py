"""What a task owns of a prototype: masks over what is shared, or weights of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from propetl.bits import unpack
from propetl.masks import initial_scores, mask_of_scores, packed_mask_of_scores
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.prefix import PrefixReparametrisation
from propetl.prototypes.prototype import initial_values, parameter_key
from propetl.prototypes.spec import TaskLayout


class TaskPart(nn.Module, ABC):
    """One task's share; knows how to make the weights that run."""

    @abstractmethod
    def effective(self, prototype: Mapping[str, Tensor]) -> EffectiveWeights:
        """Weights for all slots from the shared prototype's tensors."""

    def packed_masks(self) -> dict[str, NDArray[np.uint8]]:
        """Masks as bits, uint8 ``[slots, bytes]``; empty if the task masks nothing."""
        return {}

    def own_weights(self) -> dict[str, Tensor]:
        """Float weights ``[slots, *shape]`` of an unshared task; empty otherwise."""
        return {}


class MaskedPart(TaskPart):
    """Common to trained and fixed masks."""

    @abstractmethod
    def masks(self) -> dict[str, Tensor]:
        """Zeros and ones by tensor, ``[slots, *shape]``."""

    def effective(self, prototype: Mapping[str, Tensor]) -> EffectiveWeights:
        """``prototype * mask`` at every slot; what is not masked is shared as it is."""
        masks = self.masks()
        per_slot = {name: prototype[name] * mask for name, mask in masks.items()}
        return EffectiveWeights(per_slot, {name: value for name, value in prototype.items() if name not in masks})


class TrainedMasks(MaskedPart):
    """Masks that are the top-k of trainable scores."""

    def __init__(self, layout: TaskLayout) -> None:
        """Fresh scores for every slot of ``layout``."""
        super().__init__()
        self.sparsity = layout.config.sparsity
        self.names = tuple(tensor.name for tensor in layout.masked_tensors)
        self.scores = nn.ParameterDict(
            {
                parameter_key(tensor.name): nn.Parameter(initial_scores(layout.slots, tensor.shape))
                for tensor in layout.masked_tensors
            }
        )

    def masks(self) -> dict[str, Tensor]:
        """Masks with the straight-through gradient."""
        return {name: mask_of_scores(self.scores[parameter_key(name)], self.sparsity) for name in self.names}

    def packed_masks(self) -> dict[str, NDArray[np.uint8]]:
        """The same masks as bits."""
        return {name: packed_mask_of_scores(self.scores[parameter_key(name)], self.sparsity) for name in self.names}


class FixedMasks(MaskedPart):
    """Masks read from a task pack."""

    def __init__(self, layout: TaskLayout, packed: Mapping[str, NDArray[np.uint8]]) -> None:
        """``packed`` by tensor, uint8 ``[slots, bytes]``."""
        super().__init__()
        self.packed = dict(packed)
        self.names = tuple(tensor.name for tensor in layout.masked_tensors)
        for tensor in layout.masked_tensors:
            mask = torch.from_numpy(unpack(self.packed[tensor.name], tensor.size)).float()
            self.register_buffer(parameter_key(tensor.name), mask.view(layout.slots, *tensor.shape))

    def masks(self) -> dict[str, Tensor]:
        """Constant masks."""
        return {name: self.get_buffer(parameter_key(name)) for name in self.names}

    def packed_masks(self) -> dict[str, NDArray[np.uint8]]:
        """The bits they were read from."""
        return self.packed


class OwnWeights(TaskPart):
    """An unshared task: float weights at every slot, the usual adapter or LoRA."""

    def __init__(self, layout: TaskLayout, values: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """``values`` by tensor ``[slots, *shape]``; fresh ones if None."""
        super().__init__()
        self.names = tuple(tensor.name for tensor in layout.tensors)
        self.weights = nn.ParameterDict()
        for tensor in layout.tensors:
            if values is None:
                value = torch.stack([initial_values(tensor.name, tensor.shape) for _ in range(layout.slots)])
            else:
                value = torch.from_numpy(values[tensor.name].copy())
            self.weights[parameter_key(tensor.name)] = nn.Parameter(value)

    def own_weights(self) -> dict[str, Tensor]:
        """Weights by tensor ``[slots, *shape]``."""
        return {name: self.weights[parameter_key(name)] for name in self.names}

    def effective(self, prototype: Mapping[str, Tensor]) -> EffectiveWeights:
        """The task's own weights; the prototype is empty."""
        return EffectiveWeights(self.own_weights())


class OwnPrefix(TaskPart):
    """An unshared prefix while it trains through its reparametrisation."""

    def __init__(self, layout: TaskLayout) -> None:
        """One prefix for each slot of ``layout``."""
        super().__init__()
        config = layout.config
        self.slots = layout.slots
        self.reparametrisation = PrefixReparametrisation(
            config.prefix_length, layout.hidden_size, config.prefix_hidden, layout.slots
        )

    def own_weights(self) -> dict[str, Tensor]:
        """``{"prefix": [slots, P, 2 * hidden]}``."""
        made = self.reparametrisation()
        return {"prefix": made.unsqueeze(0) if self.slots == 1 else made}

    def effective(self, prototype: Mapping[str, Tensor]) -> EffectiveWeights:
        """The task's own prefixes; the prototype is empty."""
        return EffectiveWeights(self.own_weights())


def new_task_part(layout: TaskLayout) -> TaskPart:
    """A task's share, freshly drawn from torch's generator."""
    if layout.config.sharing == "masked" and layout.masked_tensors:
        return TrainedMasks(layout)
    if layout.config.method == "prefix":
        return OwnPrefix(layout)
    return OwnWeights(layout)
