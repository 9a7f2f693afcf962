"""Gives every product a copy of the int8 constants that it reads, where an optimiser joined equal ones."""

import onnx_ir as ir

from propetl.export.passes.quantize_dynamically import own_constant

_READERS = frozenset({"DequantizeLinear", "MatMulInteger"})


class OwnIntegers(ir.passes.InPlacePass):
    """Undoes what an optimiser did to int8 constants: :func:`own_constant` says why ONNX Runtime needs them apart.

    Requires: nothing.
    Ensures: no int8 constant is read by two operators that ONNX Runtime may turn to uint8.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """The first reader keeps the constant, the others get copies."""
        graph = model.graph
        shared = [(value, uses) for value in list(graph.initializers.values()) if (uses := _further_uses(value))]
        for value, uses in shared:
            assert value.const_value is not None
            for node, index in uses:
                node.replace_input_with(index, own_constant(graph, str(value.name), value.const_value.numpy()))
        return ir.passes.PassResult(model, bool(shared))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one with two readers."""
        for value in model.graph.initializers.values():
            if _further_uses(value):
                raise ir.passes.PostconditionError(f"{value.name} is read twice")


def _further_uses(value: ir.Value) -> list[tuple[ir.Node, int]]:
    """Reader and place of all uses of an int8 constant but the first."""
    if value.dtype != ir.DataType.INT8:
        return []
    return [(use.node, use.idx) for use in value.uses() if use.node.op_type in _READERS][1:]
