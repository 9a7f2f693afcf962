"""Embeddings as eight-bit integers."""

import onnx_ir as ir

from propetl.export.passes.quantize_dynamically import constant, symmetric_int8

# Smaller tables (token types, unpacked bytes) are not worth an operator.
_SMALLEST_BYTES = 1 << 16


class QuantizeTables(ir.passes.InPlacePass):
    """Keeps large tables that are looked up as int8 with a scale for each row; rows become floats when looked up.

    Half of a small model's weights are word embeddings. Only the rows of a call's tokens are ever converted.

    Requires: nothing.
    Ensures: no large table of floats is looked up.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantises each table once, however many lookups it has."""
        found = [node for node in model.graph if _is_lookup(node)]
        made: dict[ir.Value, tuple[ir.Value, ir.Value]] = {}
        for node in found:
            _replace(model.graph, node, made)
        ir.passes.common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one that is left."""
        for node in model.graph:
            if _is_lookup(node):
                raise ir.passes.PostconditionError(f"{node.name} looks floats up")


def _is_lookup(node: ir.Node) -> bool:
    table = node.inputs[0].const_value if node.op_type == "Gather" and node.inputs[0] is not None else None
    if table is None or table.dtype != ir.DataType.FLOAT or len(table.shape) != 2 or table.shape[1] == 1:
        return False  # one column: the scales of a table that was quantised
    return node.attributes.get_int("axis", 0) == 0 and table.nbytes >= _SMALLEST_BYTES


def _replace(graph: ir.Graph, node: ir.Node, made: dict[ir.Value, tuple[ir.Value, ir.Value]]) -> None:
    table, rows = node.inputs
    assert table is not None and table.const_value is not None
    if table not in made:
        integers, scales = symmetric_int8(table.const_value.numpy(), axis=1)
        made[table] = (
            constant(graph, f"{table.name}.int8", integers),
            constant(graph, f"{table.name}.scale", scales[:, None]),
        )
    tape = ir.tape.Tape()
    row, scale = (tape.op("Gather", [part, rows], {"axis": 0}) for part in made[table])
    result = tape.op("Mul", [tape.op("Cast", [row], {"to": ir.DataType.FLOAT}), scale])
    result.type, result.shape = node.outputs[0].type, node.outputs[0].shape
    ir.convenience.replace_nodes_and_values(graph, node, [node], tape.nodes, [node.outputs[0]], [result])
