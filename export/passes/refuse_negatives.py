"""Makes negative ids an error: ONNX counts negative indices from the end, and would answer as for another id."""

from collections.abc import Iterator

import numpy as np
import onnx_ir as ir

# Operators that change only an index's shape.
_RESHAPING = frozenset({"Cast", "Expand", "Identity", "Reshape", "Slice", "Squeeze", "Transpose", "Unsqueeze"})


class RefuseNegatives(ir.passes.InPlacePass):
    """Turns a negative index into the number of entries, which no entry has: an engine refuses it as any too large one.

    Only of indices that come in: token ids, token types, positions, ``task_id``. Two small operators for each.

    Requires: nothing.
    Ensures: no Gather over a known number of entries takes an input's negative numbers.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Guards each index once for all tables of one size."""
        graph, guarded = model.graph, dict[tuple[ir.Value, int], ir.Value]()
        for node, index, entries in list(_open(graph)):
            if (index, entries) not in guarded:
                guarded[index, entries] = _guard(graph, index, entries)
            node.replace_input_with(1, guarded[index, entries])
        return ir.passes.PassResult(model, bool(guarded))

    def ensures(self, model: ir.Model) -> None:
        """Looks for an index that is still taken as it comes."""
        for node, index, _ in _open(model.graph):
            raise ir.passes.PostconditionError(f"{node.name} takes {index.name} as it comes")


def _open(graph: ir.Graph) -> Iterator[tuple[ir.Node, ir.Value, int]]:
    """Gathers whose index is an input's, the index, and how many entries there are."""
    for node in graph:
        if node.op_type != "Gather" or node.domain not in ("", "ai.onnx"):
            continue
        table, index = node.inputs
        entries = _entries(table, node.attributes["axis"].as_int() if "axis" in node.attributes else 0)
        if index is not None and entries is not None and _comes_in(index):
            yield node, index, entries


def _entries(table: ir.Value | None, axis: int) -> int | None:
    """How many entries ``table`` has, where that is known."""
    if table is None:
        return None
    shape = table.shape if table.const_value is None else table.const_value.shape
    size = None if shape is None else shape[axis]
    return size if isinstance(size, int) else None


def _comes_in(value: ir.Value | None) -> bool:
    """Whether ``value`` is an input of whole numbers, but for its shape."""
    while value is not None and not value.is_graph_input():
        node = value.producer()
        if node is None or node.op_type not in _RESHAPING:
            return False
        value = node.inputs[0]
    return value is not None and value.dtype in (ir.DataType.INT64, ir.DataType.INT32)


def _guard(graph: ir.Graph, index: ir.Value, entries: int) -> ir.Value:
    dtype = index.dtype or ir.DataType.INT64
    zero, beyond = (
        ir.node("Constant", [], attributes={"value": ir.tensor(np.array(number, dtype.numpy()))})
        for number in (0, entries)
    )
    below = ir.node("Less", [index, zero.outputs[0]])
    chosen = ir.node("Where", [below.outputs[0], beyond.outputs[0], index], name=f"refuse_negative_{index.name}")
    for node, kind in ((zero, dtype), (beyond, dtype), (below, ir.DataType.BOOL), (chosen, dtype)):
        node.outputs[0].dtype = kind
        node.outputs[0].shape = ir.Shape([]) if node.op_type == "Constant" else index.shape
    source = index.producer()
    if source is None:
        graph.insert_before(graph.node(0), [zero, beyond, below, chosen])
    else:
        graph.insert_after(source, [zero, beyond, below, chosen])
    return chosen.outputs[0]
