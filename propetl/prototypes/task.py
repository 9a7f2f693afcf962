"""What a task owns of a prototype: masks over what is shared, or weights of its own."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from propetl.masks import combined
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.mask_set import FixedMasks, MaskSet, Packed, SharedMaskSets, TrainedMasks
from propetl.prototypes.prototype import drawn, parameter_key
from propetl.prototypes.spec import Combination


class TaskPart(nn.Module, ABC):
    """One task's share; knows how to make the weights that run."""

    @abstractmethod
    def effective(self, prototype: Mapping[str, Tensor], shared: SharedMaskSets) -> EffectiveWeights:
        """Weights for all slots from the prototype's tensors and the masks that tasks share."""

    def packed_masks(self) -> dict[str, NDArray[np.uint8]]:
        """Masks of its own as bits, uint8 ``[slots, bytes]`` or ``[bytes]``; empty if it has none."""
        return {}

    def own_weights(self) -> dict[str, Tensor]:
        """Float weights ``[slots, *shape]`` of an unshared task; empty otherwise."""
        return {}


class MaskedPart(TaskPart):
    """Masks over the prototype: the task's own, combined with those of the layers and of its language."""

    def __init__(self, rule: Combination, own: MaskSet | None, language: str | None = None) -> None:
        """``own`` is None where a task has a head only."""
        super().__init__()
        self.rule = rule
        self.own = own
        self.language = language

    def masks(self, shared: SharedMaskSets) -> dict[str, Tensor]:
        """What is multiplied with the prototype, ``[slots, *shape]``, or ``[1, *shape]`` if all slots use the same."""
        sets = [masks.masks() for masks in shared.of(self.language)]
        if self.own is not None:
            sets.append(self.own.masks())
        return {name: combined(self.rule, [masks[name] for masks in sets]) for name in sets[0]}

    def effective(self, prototype: Mapping[str, Tensor], shared: SharedMaskSets) -> EffectiveWeights:
        """``prototype * mask`` at every slot; what is not masked is shared as it is."""
        masked = {name: prototype[name] * mask for name, mask in self.masks(shared).items()}
        per_slot = {name: weight for name, weight in masked.items() if weight.shape[0] > 1}
        alike = {name: weight[0] for name, weight in masked.items() if name not in per_slot}
        unmasked = {name: weight for name, weight in prototype.items() if name not in masked}
        return EffectiveWeights(per_slot, alike | unmasked)

    def packed_masks(self) -> dict[str, NDArray[np.uint8]]:
        """Those of the task's own."""
        return {} if self.own is None else self.own.packed()


class NothingOwn(TaskPart):
    """A task that runs what all tasks share, at every slot its own weights."""

    def effective(self, prototype: Mapping[str, Tensor], shared: SharedMaskSets) -> EffectiveWeights:
        """The prototype ``[slots, *shape]`` as it is."""
        return EffectiveWeights(prototype)


class OwnWeights(TaskPart):
    """An unshared task: float weights at every slot, the usual adapter or LoRA."""

    def __init__(self, layout: TaskLayout, values: Mapping[str, NDArray[np.float32]] | None = None) -> None:
        """``values`` by tensor ``[slots, *shape]``; fresh ones if None."""
        super().__init__()
        shapes = layout.weight_shapes()
        initial = {tensor.name: tensor.initial for tensor in layout.tensors}
        self.names = tuple(shapes)
        self.weights = nn.ParameterDict()
        for name, shape in shapes.items():
            value = drawn(initial[name], shape) if values is None else torch.from_numpy(values[name].copy())
            self.weights[parameter_key(name)] = nn.Parameter(value)

    def own_weights(self) -> dict[str, Tensor]:
        """Weights by tensor ``[slots, *shape]``."""
        return {name: self.weights[parameter_key(name)] for name in self.names}

    def effective(self, prototype: Mapping[str, Tensor], shared: SharedMaskSets) -> EffectiveWeights:
        """The task's own weights; the prototype is empty."""
        return EffectiveWeights(self.own_weights())


class SparseWeights(TaskPart):
    """Weights of a task's own under masks, while they train; afterwards the masks are zeros in the weights."""

    def __init__(self, layout: TaskLayout, weights: TaskPart) -> None:
        """``weights`` are the task's own; each slot of each masked tensor gets a mask."""
        super().__init__()
        self.weights = weights
        self.mask_set = TrainedMasks(layout, layout.slot_masks())

    def own_weights(self) -> dict[str, Tensor]:
        """``weight * mask`` by tensor ``[slots, *shape]``."""
        masks = self.mask_set.masks()
        weights = self.weights.own_weights()
        return {name: weight * masks[name] if name in masks else weight for name, weight in weights.items()}

    def effective(self, prototype: Mapping[str, Tensor], shared: SharedMaskSets) -> EffectiveWeights:
        """The task's own weights; the prototype is empty."""
        return EffectiveWeights(self.own_weights())


def new_task_part(layout: TaskLayout, language: str | None = None) -> TaskPart:
    """A task's share, freshly drawn from torch's generator."""
    config = layout.config
    if config.sharing == "tasks":
        return NothingOwn()
    if config.masked and layout.masked_tensors:
        shapes = layout.mask_shapes()
        return MaskedPart(config.combine, TrainedMasks(layout, shapes) if shapes else None, language)
    own = config.specification.layer().new_weights(layout)
    return SparseWeights(layout, own) if config.sharing == "sparse" and layout.masked_tensors else own


def read_task_part(
    layout: TaskLayout, masks: Packed, weights: Mapping[str, NDArray[np.float32]], language: str | None = None
) -> TaskPart:
    """A task's share as a task pack holds it: packed masks, float weights ``[slots, *shape]``, or nothing."""
    if layout.config.sharing == "tasks":
        return NothingOwn()
    if layout.config.masked and layout.masked_tensors:
        return MaskedPart(layout.config.combine, FixedMasks(layout, masks) if masks else None, language)
    return OwnWeights(layout, weights)
