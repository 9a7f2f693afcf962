"""Adds what is added to attention scores together first, so that a fused attention can take it as one bias."""

import onnx_ir as ir


class JoinAttentionBiases(ir.passes.InPlacePass):
    """Replaces ``Softmax((scores + a) + b)`` by ``Softmax(scores + (a + b))``.

    MPNet adds its relative positions and then the mask; a fused attention operator has room for one addend. The
    sum of the two is the same in every layer, so it is also computed once instead of once per layer.

    Requires: nothing.
    Ensures: no Softmax reads a chain of two additions whose inner one starts at the scores.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewires the scores of each layer; the sum is made once."""
        chains = [node for node in model.graph if _is_chain(node)]
        sums: dict[tuple[ir.Value, ir.Value], ir.Value] = {}
        for outer in chains:
            inner = _inner(outer)
            scores, first = inner.inputs
            second = outer.inputs[1]
            assert scores is not None and first is not None and second is not None
            if (first, second) not in sums:
                sums[first, second] = _insert_sum(model.graph, first, second, outer)
            outer.replace_input_with(0, scores)
            outer.replace_input_with(1, sums[first, second])
            model.graph.remove(inner, safe=True)
        return ir.passes.PassResult(model, bool(chains))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a chain that is left."""
        for node in model.graph:
            if _is_chain(node):
                raise ir.passes.PostconditionError(f"{node.name} adds a second bias to attention scores")


def _insert_sum(graph: ir.Graph, first: ir.Value, second: ir.Value, before: ir.Node) -> ir.Value:
    total = ir.node("Add", [first, second], name=f"{before.name}_bias")
    total.outputs[0].name = f"{first.name}_plus_{second.name}"
    # The exporter has expanded the first to [batch, heads, seq, seq]; the mask is [batch, 1, seq, seq].
    total.outputs[0].type, total.outputs[0].shape = first.type, first.shape
    graph.insert_before(before, total)
    return total.outputs[0]


def _is_chain(node: ir.Node) -> bool:
    if node.op_type != "Add" or not _feeds_only_softmax(node) or node.inputs[0] is None:
        return False
    inner = node.inputs[0].producer()
    if inner is None or inner.op_type != "Add" or len(inner.outputs[0].uses()) != 1 or inner.inputs[0] is None:
        return False
    scores = inner.inputs[0].producer()
    return scores is not None and scores.op_type in ("MatMul", "Mul", "Div")


def _inner(outer: ir.Node) -> ir.Node:
    assert outer.inputs[0] is not None
    inner = outer.inputs[0].producer()
    assert inner is not None
    return inner


def _feeds_only_softmax(node: ir.Node) -> bool:
    users = [user.node.op_type for user in node.outputs[0].uses()]
    return users == ["Softmax"]
