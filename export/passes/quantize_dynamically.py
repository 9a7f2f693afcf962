"""Products with constant matrices on eight-bit integers, for which no ranges have to be known."""

import itertools

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.runtime.operators import ONNXRUNTIME_DOMAIN

_LARGEST = 127

# A head of a few labels is worth nothing in integers, and decides the answer.
_SMALLEST_SIDE = 16


class QuantizeDynamically(ir.passes.InPlacePass):
    """Replaces ``x @ w``, with ``w`` a constant matrix, by an integer product.

    The activation becomes unsigned 8-bit integers by its own range at each call, once for all products that read
    it; the weight symmetric signed ones, with a scale for each column and all 8 bits. All operators are ONNX's
    own, and ONNX Runtime joins them to one when it loads the graph.

    Requires: nothing.
    Ensures: no product by a large constant matrix of floats is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantises each product."""
        found = [node for node in model.graph if is_product(node)]
        activations: dict[ir.Value, tuple[ir.Value, ...]] = {}
        for node in found:
            _replace(model.graph, node, activations)
        ir.passes.common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one that is left."""
        for node in model.graph:
            if is_product(node):
                raise ir.passes.PostconditionError(f"{node.name} multiplies floats")


def is_product(node: ir.Node) -> bool:
    """Whether ``node`` multiplies by a constant matrix of floats that is worth quantising."""
    if not is_constant_product(node):
        return False
    assert node.inputs[1] is not None and node.inputs[1].const_value is not None
    return bool(min(node.inputs[1].const_value.shape.numpy()) >= _SMALLEST_SIDE)


def is_constant_product(node: ir.Node) -> bool:
    """Whether ``node`` multiplies by a constant matrix of floats."""
    if (node.domain, node.op_type) not in (("", "MatMul"), (ONNXRUNTIME_DOMAIN, "FusedMatMul")):
        return False
    weight = node.inputs[1].const_value if node.inputs[1] is not None else None
    if weight is None or weight.dtype != ir.DataType.FLOAT or len(weight.shape) != 2:
        return False
    return set(node.attributes) <= {"transB"}


def matrix_of(node: ir.Node) -> NDArray[np.float32]:
    """The constant matrix ``[in, out]`` of a product."""
    assert node.inputs[1] is not None and node.inputs[1].const_value is not None
    weight: NDArray[np.float32] = node.inputs[1].const_value.numpy()
    return weight.T if node.attributes.get_int("transB", 0) else weight


def weight_name(node: ir.Node) -> str:
    """Names what :func:`matrix_of` gives."""
    assert node.inputs[1] is not None
    return f"{node.inputs[1].name}{'.transposed' if node.attributes.get_int('transB', 0) else ''}"


def symmetric_int8(values: NDArray[np.float32], axis: int) -> tuple[NDArray[np.int8], NDArray[np.float32]]:
    """Integers from -127 to 127 and their scales, one for each index that is left when ``axis`` is reduced."""
    largest = np.abs(values).max(axis=axis, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    return np.rint(values / scales).astype(np.int8), scales.squeeze(axis)


def constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """The initialiser ``name`` of ``graph``, made if it is not there: products may share a weight."""
    if name in graph.initializers:
        return graph.initializers[name]
    tensor = ir.tensor(np.ascontiguousarray(array).reshape(array.shape), name=name)  # 0-d arrays become 1-d
    value = ir.Value(name=name, const_value=tensor, type=ir.TensorType(tensor.dtype), shape=ir.Shape(array.shape))
    graph.register_initializer(value)
    return value


def own_constant(graph: ir.Graph, name: str, array: NDArray[np.generic]) -> ir.Value:
    """A new initialiser, called ``name`` or after it, for one reader alone.

    On x86 CPUs without VNNI, ONNX Runtime replaces an int8 matrix by a uint8 one for each of its readers, and fails at
    the second reader of one matrix. The file of weights holds equal bytes once all the same.
    """
    names = itertools.chain([name], (f"{name}.{number}" for number in itertools.count(2)))
    return constant(graph, next(free for free in names if free not in graph.initializers), array)


def _replace(graph: ir.Graph, node: ir.Node, activations: dict[ir.Value, tuple[ir.Value, ...]]) -> None:
    tape = ir.tape.Tape()
    activation = node.inputs[0]
    assert activation is not None
    if activation not in activations:
        activations[activation] = tuple(tape.op_multi_out("DynamicQuantizeLinear", [activation], num_outputs=3))
    integers, scale, zero = activations[activation]
    matrix, scales = symmetric_int8(matrix_of(node), axis=0)
    name = weight_name(node)
    total = tape.op("MatMulInteger", [integers, own_constant(graph, f"{name}.int8", matrix), zero])
    both = tape.op("Mul", [scale, constant(graph, f"{name}.scale", scales)])
    product = tape.op("Mul", [tape.op("Cast", [total], {"to": ir.DataType.FLOAT}), both])
    product.type, product.shape = node.outputs[0].type, node.outputs[0].shape
    ir.convenience.replace_nodes_and_values(graph, node, [node], tape.nodes, [node.outputs[0]], [product])
