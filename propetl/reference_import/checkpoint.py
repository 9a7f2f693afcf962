"""A checkpoint's tensors, read without running anything, and which of them have been used."""

import pickle
import warnings
from collections.abc import Iterable
from pathlib import Path

import torch
from torch import Tensor

from propetl.errors import BundleError

# What torch.load raises for files that are damaged, or hold more than tensors.
_UNREADABLE = (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, KeyError, TypeError, AttributeError)


class Checkpoint:
    """Tensors by name; :meth:`take` marks what it hands out, so that the rest can be named."""

    def __init__(self, tensors: dict[str, Tensor], source: Path) -> None:
        """``source`` names the file in errors."""
        self.tensors = tensors
        self.source = source
        self._taken: set[str] = set()

    def __contains__(self, name: str) -> bool:
        return name in self.tensors

    def take(self, name: str, shape: tuple[int, ...] | None = None) -> Tensor:
        """The tensor ``name``, which has to have ``shape`` if that is given.

        Raises:
            BundleError: it is not there, has another shape, or values that are not finite.
        """
        if name not in self.tensors:
            raise BundleError(f"{self.source}: it has no tensor {name!r}; it is not of the layout that was expected")
        tensor = self.tensors[name]
        if shape is not None and tuple(tensor.shape) != shape:
            raise BundleError(f"{self.source}: {name} has shape {list(tensor.shape)}, expected {list(shape)}")
        if tensor.is_floating_point() and not bool(torch.isfinite(tensor).all()):
            raise BundleError(f"{self.source}: {name} holds values that are not finite")
        self._taken.add(name)
        return tensor

    def take_equal(self, names: Iterable[str]) -> Tensor:
        """The one tensor that stands under all of ``names``: shared by layers, the file repeats it.

        Raises:
            BundleError: one is missing, or they differ.
        """
        first, *others = names
        tensor = self.take(first)
        for other in others:
            if not torch.equal(self.take(other), tensor):
                raise BundleError(
                    f"{self.source}: {other} differs from {first}, but all layers share one prototype"
                )
        return tensor

    @property
    def holds_scores(self) -> bool:
        """Whether a tensor is of floats: a mask file then has scores for masks."""
        return any(value.is_floating_point() for value in self.tensors.values())

    def unused(self) -> list[str]:
        """Names of the tensors that nobody took."""
        return sorted(self.tensors.keys() - self._taken)


def read_checkpoint(path: Path) -> Checkpoint:
    """The state dict in the file ``path``, on the CPU.

    Raises:
        BundleError: the file is missing, damaged, or holds anything but named tensors.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # of pickle protocols, which say nothing to a user
            loaded = torch.load(path, map_location="cpu", weights_only=True)
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no such file") from error
    except _UNREADABLE as error:
        raise BundleError(
            f"{path}: it cannot be read as tensors alone ({type(error).__name__}); it is damaged, or holds objects, "
            "which are never unpickled here"
        ) from error
    if not isinstance(loaded, dict) or not all(
        isinstance(name, str) and isinstance(value, Tensor) for name, value in loaded.items()
    ):
        raise BundleError(f"{path}: it is no state dict (names with tensors)")
    return Checkpoint(dict(loaded), path)
