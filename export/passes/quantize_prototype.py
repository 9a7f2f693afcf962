"""A prototype as eight-bit integers, to which masks can still be applied."""

import numpy as np
import onnx_ir as ir

from propetl.export.passes.quantize_dynamically import constant, symmetric_int8

_SMALLEST_BYTES = 1024

# What applies a mask: zeros and ones to multiply with, or a choice between two products.
_MASKING = frozenset({"Mul", "Where"})


class QuantizePrototype(ir.passes.InPlacePass):
    """Keeps constant matrices that masks are applied to as int8, with a scale for each row.

    ``(scale * integers) * mask`` is ``scale * (integers * mask)``: a mask commutes with the scales, so one
    quantised prototype serves every mask, also one that is trained later.

    Requires: nothing.
    Ensures: no large constant matrix of floats meets a mask.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Puts a DequantizeLinear behind each."""
        found = [value for value in model.graph.initializers.values() if _is_masked(value)]
        for value in found:
            _replace(model.graph, value)
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one that is left."""
        for value in model.graph.initializers.values():
            if _is_masked(value):
                raise ir.passes.PostconditionError(f"{value.name} is masked as floats")


def _is_masked(value: ir.Value) -> bool:
    tensor = value.const_value
    if tensor is None or tensor.dtype != ir.DataType.FLOAT or len(tensor.shape) != 2:
        return False
    return tensor.nbytes >= _SMALLEST_BYTES and any(use.node.op_type in _MASKING for use in value.uses())


def _replace(graph: ir.Graph, value: ir.Value) -> None:
    assert value.const_value is not None
    integers, scales = symmetric_int8(value.const_value.numpy(), axis=1)
    zeros = np.zeros(len(scales), np.int8)  # as ONNX Runtime would add a scalar where it makes int8 uint8
    named = (("int8", integers), ("scale", scales), ("zeros", zeros))
    inputs = [constant(graph, f"{value.name}.{kind}", array) for kind, array in named]
    node = ir.node("DequantizeLinear", inputs, {"axis": 0}, name=f"{value.name}.dequantize")
    node.outputs[0].type, node.outputs[0].shape = value.type, value.shape
    value.replace_all_uses_with(node.outputs[0])
    graph.insert_before(graph.node(0), node)
    graph.initializers.pop(str(value.name))
