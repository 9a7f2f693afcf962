"""``prototype.safetensors``: the prototype's weights, and the masks that belong to it rather than to a task."""

from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import VERSION, check_format
from propetl.bundle.pack import LANGUAGE_MASK
from propetl.bundle.tensors import Arrays, check_finite, check_masks, check_shapes, group_of, read_tensors, tensor_bytes
from propetl.errors import BundleError
from propetl.prototypes.layout import TaskLayout

FORMAT = "propetl-prototype"
LAYER_MASK = "layer_mask."

Weights = dict[str, NDArray[np.float32]]
Masks = dict[str, NDArray[np.uint8]]


@dataclass(frozen=True)
class SharedMasks:
    """Packed masks that tasks share.

    Attributes:
        layers: by tensor, uint8 ``[slots, bytes]``; for all tasks.
        languages: by language and tensor, uint8 ``[bytes]``; for the tasks of that language.
    """

    layers: Masks = field(default_factory=dict)
    languages: dict[str, Masks] = field(default_factory=dict)

    def of_language(self, language: str | None) -> Masks:
        """The masks of ``language``; none if it is None."""
        return {} if language is None else self.languages[language]

    def tensors(self) -> Arrays:
        """All of them by the names that the file uses."""
        named: Arrays = {LAYER_MASK + name: mask for name, mask in self.layers.items()}
        for language, masks in self.languages.items():
            named |= {f"{_language_prefix(language)}{name}": mask for name, mask in masks.items()}
        return named


def prototype_bytes(weights: Weights, shared: SharedMasks) -> bytes:
    """The file; the same tensors always give the same bytes."""
    return tensor_bytes({**weights, **shared.tensors()}, {"format": FORMAT, "version": VERSION})


def read_prototype(path: Path, layout: TaskLayout) -> tuple[Weights, SharedMasks]:
    """Weights float32 ``[*shape]`` by name, and the masks that tasks share.

    Raises:
        BundleError: the file is damaged, of another format, or not the one that ``layout`` asks for.
    """
    tensors, described = read_tensors(path)
    check_format(described, FORMAT, VERSION, str(path), BundleError)
    languages = {name: group_of(tensors, _language_prefix(name)) for name in layout.config.languages}
    shared = SharedMasks(group_of(tensors, LAYER_MASK), languages)
    weights = {name: tensor for name, tensor in tensors.items() if name not in shared.tensors()}
    check_prototype(weights, shared, layout, str(path))
    return weights, shared


def check_prototype(weights: Weights, shared: SharedMasks, layout: TaskLayout, source: str) -> None:
    """Refuses tensors that are not exactly those of ``layout``, masks with stray bits, and numbers that are not finite.

    Raises:
        BundleError: naming the tensor.
    """
    check_shapes(dict(weights), layout.prototype_shapes(), "float32", source)
    check_finite(dict(weights), source)
    check_masks(shared.layers, layout.layer_mask_shapes(), layout, f"{source} (layer masks)")
    if tuple(shared.languages) != layout.config.languages:
        expected = f"{list(layout.config.languages)}, found {list(shared.languages)}"
        raise BundleError(f"{source}: expected masks of the languages {expected}")
    for language, masks in shared.languages.items():
        check_masks(masks, layout.language_mask_shapes(), layout, f"{source} (masks of language {language})")


def _language_prefix(language: str) -> str:
    """A language's name holds no dot, so no two prefixes meet."""
    return f"{LANGUAGE_MASK}{language}."
