"""What tasks share as a module: plain tensors, or whatever a method makes them from while training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.method import Initial


class Prototype(nn.Module, ABC):
    """Tensors that all tasks share, and mostly all slots."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Prototype tensors by name, ``[*shape]`` each; ``[slots, *shape]`` where slots have weights of their own."""


class TensorPrototype(Prototype):
    """A prototype that is its tensors, as any is that was read from a bundle."""

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


def new_prototype(layout: TaskLayout) -> Prototype:
    """A freshly initialised prototype; nothing in it where the method shares nothing."""
    return layout.config.specification.layer().new_prototype(layout)


def drawn(initial: Initial, shape: tuple[int, ...]) -> Tensor:
    """Start of one tensor, at one slot or all, from torch's generator."""
    kind, value = initial
    if kind == "constant":
        return torch.full(shape, value)
    if kind == "uniform":
        bound = value * shape[-1] ** -0.5
        return torch.empty(shape).uniform_(-bound, bound)
    return torch.empty(shape).normal_(std=value)


def parameter_key(name: str) -> str:
    """Parameter names may not hold dots."""
    return name.replace(".", "_")
