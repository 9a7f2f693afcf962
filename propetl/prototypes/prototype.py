"""What tasks share as a module: plain tensors, or prefixes that MLPs make while training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from propetl.prototypes.prefix import PrefixReparametrisation
from propetl.prototypes.spec import TaskLayout


class Prototype(nn.Module, ABC):
    """Tensors that all tasks share, and mostly all slots."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Prototype tensors by name, ``[*shape]`` each; ``[slots, *shape]`` where slots have weights of their own."""


class TensorPrototype(Prototype):
    """A prototype that is its tensors: adapter, LoRA, and any prototype read from a bundle."""

    def __init__(self, values: Mapping[str, Tensor]) -> None:
        """``values`` by tensor name."""
        super().__init__()
        self.parameters_by_name = nn.ParameterDict(
            {parameter_key(name): nn.Parameter(value) for name, value in values.items()}
        )
        self.names = tuple(values)

    def tensors(self) -> dict[str, Tensor]:
        """Prototype tensors by name."""
        return {name: self.parameters_by_name[parameter_key(name)] for name in self.names}


class PrefixPrototype(Prototype):
    """Prefixes that are trained through reparametrisations: one for each prototype."""

    def __init__(self, layout: TaskLayout) -> None:
        """For the prefixes of ``layout``."""
        super().__init__()
        self.shapes = layout.prototype_shapes()
        self.reparametrisations = nn.ModuleDict(
            {parameter_key(name): _reparametrisation(layout, shape) for name, shape in self.shapes.items()}
        )

    def tensors(self) -> dict[str, Tensor]:
        """By name ``[P, 2 * width]``, or ``[slots, P, 2 * width]``."""
        return {name: self.reparametrisations[parameter_key(name)]().view(shape) for name, shape in self.shapes.items()}


def _reparametrisation(layout: TaskLayout, shape: tuple[int, ...]) -> PrefixReparametrisation:
    slots, (length, columns) = shape[0] if len(shape) == 3 else 1, shape[-2:]
    return PrefixReparametrisation(length, layout.hidden_size, layout.config.prefix_hidden, slots, columns)


def new_prototype(layout: TaskLayout) -> Prototype:
    """A freshly initialised prototype; nothing in it where the method shares nothing."""
    shapes = layout.prototype_shapes()
    if layout.config.method == "prefix" and shapes:
        return PrefixPrototype(layout)
    return TensorPrototype({name: initial_values(name, shape) for name, shape in shapes.items()})


def initial_values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Start of one tensor, at one slot or all: N(0, 0.02) for adapters as in BERT, kaiming-uniform for LoRA's A.

    LoRA's B and biases start as zeros.
    """
    if name.endswith((".bias", ".b")):
        return torch.zeros(shape)
    if name.endswith(".a"):
        return torch.empty(shape).uniform_(-(shape[-1] ** -0.5), shape[-1] ** -0.5)
    return torch.empty(shape).normal_(std=0.02)


def parameter_key(name: str) -> str:
    """Parameter names may not hold dots."""
    return name.replace(".", "_")
