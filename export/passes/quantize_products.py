"""Says in the graph which matrix products are to run on eight-bit integers."""

from collections.abc import Mapping

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.export.passes.quantize_dynamically import (
    constant,
    is_constant_product,
    matrix_of,
    own_constant,
    weight_name,
)
from propetl.export.ranges import Range

_LARGEST = 127
_STEPS = 255
# Below it float16 loses digits, and scales may be lowered to it later.
_SMALLEST_SCALE = 6.2e-5


class QuantizeProducts(ir.passes.InPlacePass):
    """Quantises activation and weight of chosen products by ranges that are known: weights int8, per column.

    Weights become int8 constants behind a DequantizeLinear; activations go through QuantizeLinear and
    DequantizeLinear, once for all products that read them. An engine runs ``Dequantize, Dequantize, MatMul``
    as one integer product. What is not named is left alone: a prototype that a mask is still to be applied to,
    say, or a head.

    TensorRT takes activations that are symmetric int8. ONNX Runtime's kernels for x86 take uint8 with a zero
    point, which also wastes no integers on the side where a GELU has hardly any values.

    Requires: float32 activations and constant float32 weights ``[k, n]``, a range for each activation.
    Ensures: each named product is a MatMul both of whose inputs come out of a DequantizeLinear.
    """

    def __init__(self, ranges: Mapping[str, Range], symmetric: bool = True) -> None:
        """``ranges`` of activations by name of their product; ``symmetric``: int8 around 0, or else uint8."""
        super().__init__()
        self.ranges = dict(ranges)
        self.symmetric = symmetric

    def requires(self, model: ir.Model) -> None:
        """Checks that every name is a product with a constant matrix, and that opset and ranges will do."""
        if model.graph.opset_imports.get("", 0) < 19:
            raise ir.passes.PreconditionError("opset 19 or later is needed: before it, scales are float32 only")
        there = {str(node.name) for node in model.graph if is_constant_product(node)}
        if unknown := self.ranges.keys() - there:
            raise ir.passes.PreconditionError(f"{min(unknown)!r} is no product by a constant matrix")
        if wrong := [name for name, one in self.ranges.items() if not one.is_usable]:
            raise ir.passes.PreconditionError(f"the range of {wrong[0]!r} is {self.ranges[wrong[0]]}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Activations first: products that share one share its integers, with the widest of their ranges."""
        graph = model.graph
        nodes = [node for node in graph if node.name in self.ranges]
        widest: dict[ir.Value, Range] = {}
        for node in nodes:
            activation = _input(node, 0)
            widest[activation] = widest.get(activation, Range()).with_(self.ranges[str(node.name)])
        activations = {value: self._quantized_activation(graph, value, one) for value, one in widest.items()}
        for node in nodes:
            weight = _input(node, 1)
            node.replace_input_with(0, activations[_input(node, 0)])
            node.replace_input_with(1, _quantized_weight(graph, weight_name(node), matrix_of(node)))
            node.op_type, node.domain = "MatMul", ""
            node.attributes.clear()  # a transposed weight is stored as it is multiplied
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

    def _quantized_activation(self, graph: ir.Graph, value: ir.Value, measured: Range) -> ir.Value:
        name = str(value.name)
        scale, zero = _symmetric(measured) if self.symmetric else _unsigned(measured)
        by = [constant(graph, f"{name}.scale", scale), constant(graph, f"{name}.zero", zero)]
        quantize = ir.node("QuantizeLinear", [value, *by], name=f"quantize_{name}")
        dequantize = ir.node("DequantizeLinear", [quantize.outputs[0], *by], name=f"dequantize_{name}")
        quantize.outputs[0].name, dequantize.outputs[0].name = f"{name}.{zero.dtype}", f"{name}.dequantized"
        producer = value.producer()
        if producer is None:
            graph.insert_before(graph.node(0), [quantize, dequantize])
        else:
            graph.insert_after(producer, [quantize, dequantize])
        return dequantize.outputs[0]


def has_constant_matrix(node: ir.Node) -> bool:
    """Whether ``node`` multiplies by a constant ``[k, n]`` with ONNX's own operator."""
    return node.op_type == "MatMul" and is_constant_product(node)


def _input(node: ir.Node, index: int) -> ir.Value:
    value = node.inputs[index]
    assert value is not None
    return value


def _quantized_weight(graph: ir.Graph, name: str, weight: NDArray[np.float32]) -> ir.Value:
    """Int8 ``[k, n]`` with one scale for each of the ``n`` columns."""
    scale = _scale(np.abs(weight).max(axis=0) / _LARGEST)
    integers = np.clip(np.rint(weight / scale), -_LARGEST, _LARGEST).astype(np.int8)
    stored = own_constant(graph, f"{name}.int8", integers)
    zeros = own_constant(graph, f"{name}.zeros", np.zeros(len(scale), np.int8))
    inputs = [stored, constant(graph, f"{name}.scale", scale), zeros]
    node = ir.node("DequantizeLinear", inputs, attributes={"axis": 1}, name=f"dequantize_{stored.name}")
    node.outputs[0].name = f"{stored.name}.dequantized"
    graph.insert_before(graph.node(0), node)
    return node.outputs[0]


def _symmetric(measured: Range) -> tuple[NDArray[np.float32], NDArray[np.int8]]:
    """Scale and zero point of -127 to 127."""
    return _scale(np.array(measured.largest / _LARGEST)), np.array(0, np.int8)


def _unsigned(measured: Range) -> tuple[NDArray[np.float32], NDArray[np.uint8]]:
    """Scale and zero point of 0 to 255."""
    scale = _scale(np.array((measured.high - measured.low) / _STEPS))
    return scale, np.array(np.rint(-measured.low / scale), np.uint8)


def _scale(step: NDArray[np.floating]) -> NDArray[np.float32]:
    scale: NDArray[np.float32] = np.maximum(step, _SMALLEST_SCALE).astype(np.float32)
    return scale
