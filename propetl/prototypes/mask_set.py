"""Masks as modules: trained through scores or read from bits, of one owner or shared by tasks."""

from abc import ABC, abstractmethod
from collections.abc import Iterator, Mapping

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn

from propetl.bits import unpack
from propetl.masks import initial_scores, mask_of_scores, packed_mask_of_scores
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.prototype import parameter_key

Shapes = Mapping[str, tuple[int, ...]]
Packed = Mapping[str, NDArray[np.uint8]]


class MaskSet(nn.Module, ABC):
    """One owner's masks: of a task, of a language, or of the layers; over each masked tensor one or one per slot."""

    @abstractmethod
    def masks(self) -> dict[str, Tensor]:
        """Zeros and ones by tensor, ``[slots, *shape]``; ``[1, *shape]`` where all slots share one."""

    @abstractmethod
    def packed(self) -> dict[str, NDArray[np.uint8]]:
        """The same as bits, uint8 ``[slots, bytes]``, or ``[bytes]`` where all slots share one."""


class TrainedMasks(MaskSet):
    """Masks that are the top-k of trainable scores."""

    def __init__(self, layout: TaskLayout, shapes: Shapes) -> None:
        """Fresh scores; ``shapes`` are those of the packed masks, as ``layout`` gives them."""
        super().__init__()
        self.sparsity = layout.config.sparsity
        self.shapes = dict(shapes)
        self.scores = nn.ParameterDict(
            {
                parameter_key(tensor.name): nn.Parameter(initial_scores(_count(shapes[tensor.name]), tensor.shape))
                for tensor in layout.masked_tensors
            }
        )

    def masks(self) -> dict[str, Tensor]:
        """Masks with the straight-through gradient."""
        return {name: mask_of_scores(self.scores[parameter_key(name)], self.sparsity) for name in self.shapes}

    def packed(self) -> dict[str, NDArray[np.uint8]]:
        """The masks that :meth:`masks` gives, as bits."""
        bits = {name: packed_mask_of_scores(self.scores[parameter_key(name)], self.sparsity) for name in self.shapes}
        return {name: bits[name].reshape(shape) for name, shape in self.shapes.items()}


class FixedMasks(MaskSet):
    """Masks read from a bundle."""

    def __init__(self, layout: TaskLayout, packed: Packed) -> None:
        """``packed`` by tensor, uint8 ``[slots, bytes]`` or ``[bytes]``."""
        super().__init__()
        self.bits = dict(packed)
        for tensor in layout.masked_tensors:
            mask = torch.from_numpy(unpack(self.bits[tensor.name], tensor.size)).float()
            self.register_buffer(parameter_key(tensor.name), mask.view(-1, *tensor.shape))

    def masks(self) -> dict[str, Tensor]:
        """Constant masks."""
        return {name: self.get_buffer(parameter_key(name)) for name in self.bits}

    def packed(self) -> dict[str, NDArray[np.uint8]]:
        """The bits they were read from."""
        return self.bits


class SharedMaskSets(nn.Module):
    """Masks that belong to the prototype: of the layers and of the languages, where there are any."""

    def __init__(self, layers: MaskSet | None, languages: Mapping[str, MaskSet]) -> None:
        """``layers`` for all tasks, ``languages`` for the tasks that name one."""
        super().__init__()
        self.layers = layers
        self.languages = nn.ModuleDict({_key(name): masks for name, masks in languages.items()})
        self.names = tuple(languages)

    def of(self, language: str | None) -> Iterator[MaskSet]:
        """Those that apply to a task in ``language``."""
        if self.layers is not None:
            yield self.layers
        if language is not None:
            yield self.language(language)

    def language(self, name: str) -> MaskSet:
        """The masks of one language."""
        masks = self.languages[_key(name)]
        assert isinstance(masks, MaskSet)
        return masks


def new_shared_masks(layout: TaskLayout) -> SharedMaskSets:
    """Freshly drawn from torch's generator; nothing in it where tasks share no masks."""
    shapes = layout.layer_mask_shapes()
    layers = TrainedMasks(layout, shapes) if shapes else None
    languages = {name: TrainedMasks(layout, layout.language_mask_shapes()) for name in layout.config.languages}
    return SharedMaskSets(layers, languages)


def _count(shape: tuple[int, ...]) -> int:
    return shape[0] if len(shape) == 2 else 1


def _key(language: str) -> str:
    """Module names may not be an attribute's, such as ``values``; no language's name has a colon."""
    return f"language:{language}"
