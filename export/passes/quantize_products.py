"""Says in the graph which matrix products are to run on eight-bit integers."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

_LARGEST = 127
# Below it float16 loses digits, and scales may be lowered to it later.
_SMALLEST_SCALE = 6.2e-5


class QuantizeProducts(ir.passes.InPlacePass):
    """Quantises activation and weight of chosen MatMuls: symmetric int8, weights per column, activations as a whole.

    Weights become int8 constants behind a DequantizeLinear; activations go through QuantizeLinear and
    DequantizeLinear, once for all products that read them. An engine runs ``Dequantize, Dequantize, MatMul``
    as one integer product. What is not named is left alone: a prototype that a mask is still to be applied to,
    say, or a head.

    Requires: float32 activations and constant float32 weights ``[k, n]``, a range for each activation.
    Ensures: both inputs of each named product come out of a DequantizeLinear.
    """

    def __init__(self, ranges: Mapping[str, float]) -> None:
        """``ranges`` by name of a MatMul (:func:`products`): the largest absolute value of its activation."""
        super().__init__()
        self.ranges = dict(ranges)

    def requires(self, model: ir.Model) -> None:
        """Checks that every name is a product with a constant matrix, and that opset and ranges will do."""
        if model.graph.opset_imports.get("", 0) < 19:
            raise ir.passes.PreconditionError("opset 19 or later is needed: before it, scales are float32 only")
        there = {str(node.name) for node in model.graph if has_constant_matrix(node)}
        if unknown := self.ranges.keys() - there:
            raise ir.passes.PreconditionError(f"{min(unknown)!r} is no MatMul by a constant matrix")
        if wrong := [name for name, largest in self.ranges.items() if not 0 < largest < np.inf]:
            raise ir.passes.PreconditionError(f"the range of {wrong[0]!r} is {self.ranges[wrong[0]]}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Activations first: products that share one share its integers, with the widest of their ranges."""
        graph = model.graph
        nodes = [node for node in graph if node.name in self.ranges]
        widest: dict[ir.Value, float] = {}
        for node in nodes:
            activation = _input(node, 0)
            widest[activation] = max(widest.get(activation, 0.0), self.ranges[str(node.name)])
        activations = {value: _quantized_activation(graph, value, largest) for value, largest in widest.items()}
        weights: dict[ir.Value, ir.Value] = {}
        for node in nodes:
            weight = _input(node, 1)
            if weight not in weights:
                weights[weight] = _quantized_weight(graph, weight)
            node.replace_input_with(0, activations[_input(node, 0)])
            node.replace_input_with(1, weights[weight])
        for weight in weights:
            if not weight.uses():
                graph.initializers.pop(str(weight.name))
        return ir.passes.PassResult(model, bool(nodes))

    def ensures(self, model: ir.Model) -> None:
        """Looks at both inputs of each product."""
        for node in model.graph:
            if node.name in self.ranges:
                producers = [value.producer() if value is not None else None for value in node.inputs]
                if [producer.op_type if producer else None for producer in producers] != ["DequantizeLinear"] * 2:
                    raise ir.passes.PostconditionError(f"{node.name} is not quantised")


def has_constant_matrix(node: ir.Node) -> bool:
    """Whether ``node`` multiplies by a constant ``[k, n]``."""
    weight = node.inputs[1] if node.op_type == "MatMul" else None
    constant = weight.const_value if weight is not None else None
    return constant is not None and len(constant.shape) == 2


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _quantized_activation(graph: ir.Graph, value: ir.Value, largest: float) -> ir.Value:
    name = str(value.name)
    scale = _constant(graph, f"{name}.scale", np.array(_scale(np.array(largest)), np.float32))
    zero = _constant(graph, f"{name}.zero", np.array(0, np.int8))
    quantize = ir.node("QuantizeLinear", [value, scale, zero], name=f"quantize_{name}")
    dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], scale, zero], name=f"dequantize_{name}")
    quantize.outputs[0].name, dequantize.outputs[0].name = f"{name}.int8", f"{name}.dequantized"
    producer = value.producer()
    if producer is None:
        graph.insert_before(graph.node(0), [quantize, dequantize])
    else:
        graph.insert_after(producer, [quantize, dequantize])
    return dequantize.outputs[0]


def _quantized_weight(graph: ir.Graph, value: ir.Value) -> ir.Value:
    """Int8 ``[k, n]`` with one scale for each of the ``n`` columns."""
    assert value.const_value is not None
    name, weight = str(value.name), value.const_value.numpy()
    scale = _scale(np.abs(weight).max(axis=0))
    integers = np.clip(np.rint(weight / scale), -_LARGEST, _LARGEST).astype(np.int8)
    inputs = [
        _constant(graph, f"{name}.int8", integers),
        _constant(graph, f"{name}.scale", scale),
        _constant(graph, f"{name}.zero", np.zeros(scale.shape, np.int8)),
    ]
    node = ir.node("DequantizeLinear", inputs, attributes={"axis": 1}, name=f"dequantize_{name}")
    node.outputs[0].name = f"{name}.dequantized"
    graph.insert_before(graph.node(0), node)
    return node.outputs[0]


def _scale(largest: NDArray[np.float32]) -> NDArray[np.float32]:
    return np.maximum(largest / _LARGEST, _SMALLEST_SCALE).astype(np.float32)


def _constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    value = ir.Value(name=name, const_value=ir.tensor(array, name=name))
    value.dtype, value.shape = value.const_value.dtype, ir.Shape(array.shape)  # type: ignore[union-attr]  # set above
    graph.register_initializer(value)
    return value
