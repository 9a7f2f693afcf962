"""The shared prototype as a module: plain tensors, or a prefix that an MLP makes while training."""

from abc import ABC, abstractmethod
from collections.abc import Mapping

import torch
from torch import Tensor, nn

from propetl.prototypes.prefix import PrefixReparametrisation
from propetl.prototypes.spec import TaskLayout


class Prototype(nn.Module, ABC):
    """Tensors that all layers and tasks share."""

    @abstractmethod
    def tensors(self) -> dict[str, Tensor]:
        """Prototype tensors by name, ``[*shape]`` each."""


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
    """A prefix that is trained through its reparametrisation."""

    def __init__(self, layout: TaskLayout) -> None:
        """For the prefix of ``layout``."""
        super().__init__()
        length, columns = layout.tensors[0].shape
        inner = layout.config.prefix_hidden
        self.reparametrisation = PrefixReparametrisation(length, layout.hidden_size, inner, columns=columns)

    def tensors(self) -> dict[str, Tensor]:
        """``{"prefix": [P, 2 * width]}``."""
        return {"prefix": self.reparametrisation()}


def new_prototype(layout: TaskLayout) -> Prototype:
    """A freshly initialised prototype; nothing in it where the method shares nothing."""
    if layout.config.sharing != "masked":
        return TensorPrototype({})
    if layout.config.method == "prefix":
        return PrefixPrototype(layout)
    return TensorPrototype({tensor.name: initial_values(tensor.name, tensor.shape) for tensor in layout.tensors})


def initial_values(name: str, shape: tuple[int, ...]) -> Tensor:
    """Start of one tensor: N(0, 0.02) for adapters as in BERT, kaiming-uniform for LoRA's A; zeros for B and biases."""
    if name.endswith((".bias", ".b")):
        return torch.zeros(shape)
    if name.endswith(".a"):
        return torch.empty(shape).uniform_(-(shape[-1] ** -0.5), shape[-1] ** -0.5)
    return torch.empty(shape).normal_(std=0.02)


def parameter_key(name: str) -> str:
    """Parameter names may not hold dots."""
    return name.replace(".", "_")
