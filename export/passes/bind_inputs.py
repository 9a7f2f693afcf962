"""Turns inputs into constants: this is what makes a traced graph folded or a bank."""

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray


class BindInputs(ir.passes.InPlacePass):
    """Gives named graph inputs fixed values.

    Requires: every name is an input of the graph, with a type and sizes that the value has.
    Ensures: none of the names is an input any more; each is an initialiser. A free size of theirs, such as
        ``labels``, has its value wherever it stands, so that also operators which the ONNX checker cannot infer
        shapes through leave the outputs' sizes known.
    """

    def __init__(self, values: Mapping[str, NDArray[Any]]) -> None:
        """``values`` by input name."""
        super().__init__()
        self.values = dict(values)

    def requires(self, model: ir.Model) -> None:
        """Checks names, types and fixed sizes."""
        inputs = {value.name: value for value in model.graph.inputs}
        for name, array in self.values.items():
            if name not in inputs:
                raise ir.passes.PreconditionError(f"{name!r} is not an input of the graph: {sorted(map(str, inputs))}")
            check_fits(inputs[name], array)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Moves the inputs to the initialisers."""
        graph = model.graph
        sizes = self._sizes(model)
        for value in [value for value in graph.inputs if value.name in self.values]:
            tensor = ir.tensor(np.ascontiguousarray(self.values[str(value.name)]), name=value.name)
            graph.inputs.remove(value)
            value.const_value = tensor
            value.shape = ir.Shape(self.values[str(value.name)].shape)
            graph.register_initializer(value)
        for value in _values(model):
            if value.shape is not None and not sizes.keys().isdisjoint(map(str, value.shape)):
                value.shape = ir.Shape([sizes.get(str(size), size) for size in value.shape])
        return ir.passes.PassResult(model, bool(self.values))

    def _sizes(self, model: ir.Model) -> dict[str, int]:
        """What the free sizes of the bound inputs are."""
        return {
            str(size): found
            for value in model.graph.inputs
            if value.name in self.values
            for size, found in zip(value.shape or (), self.values[value.name].shape, strict=True)
            if not isinstance(size, int)
        }

    def ensures(self, model: ir.Model) -> None:
        """Checks that nothing of it is left open."""
        left = {value.name for value in model.graph.inputs} & set(self.values)
        if left:
            raise ir.passes.PostconditionError(f"still inputs: {sorted(map(str, left))}")


def _values(model: ir.Model) -> Iterator[ir.Value]:
    yield from model.graph.inputs
    for node in model.graph:
        yield from node.outputs


def check_fits(value: ir.Value, array: NDArray[Any]) -> None:
    """Refuses an array of another type, or of other fixed sizes, than the input ``value`` has.

    Raises:
        onnx_ir.passes.PreconditionError: naming both.
    """
    expected = value.dtype.numpy() if value.dtype is not None else None
    if expected != array.dtype:
        raise ir.passes.PreconditionError(f"{value.name}: takes {expected}, got {array.dtype}")
    sizes = list(value.shape or ())
    if len(sizes) != array.ndim or any(
        isinstance(size, int) and size != got for size, got in zip(sizes, array.shape, strict=True)
    ):
        raise ir.passes.PreconditionError(f"{value.name}: takes {sizes}, got {list(array.shape)}")
