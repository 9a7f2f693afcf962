"""Puts attention of encoder-decoders and decoders, with and without a cache, into ONNX Runtime's one operator."""

from collections.abc import Callable
from dataclasses import dataclass

import onnx_ir as ir

from propetl.export.passes.reading import made_by, require_shapes
from propetl.runtime.operators import ONNXRUNTIME_DOMAIN

_SWAPPED = [0, 1, 3, 2]
_HEADS_INSIDE = [0, 2, 1, 3]  # [batch, seq, heads, size] to [batch, heads, seq, size], and back


@dataclass(frozen=True)
class _Attention:
    """What one attention computes from, and the node whose output it is.

    Attributes:
        query: ``[batch, heads, seq, size]``, not scaled.
        key: ``[batch, heads, present, size]``, not scaled.
        value: as ``key``.
        bias: added to scores: positions and mask.
        scale: of the scores.
        last: the Reshape that puts heads side by side, to ``[batch, seq, heads * size]`` or for GPT-2 to rows of it.
    """

    query: ir.Value
    key: ir.Value
    value: ir.Value
    bias: ir.Value
    scale: float
    last: ir.Node


class FuseCachedAttention(ir.passes.InPlacePass):
    """Replaces ``Softmax(query @ key.T * scale + bias) @ value`` by ``MultiHeadAttention``.

    Keys and values go in by heads, as the cache and a prefix hold them, and of whatever they were made: so one
    pattern serves self-attention with and without a cache, cross-attention, rotated and repeated heads, and T5,
    whose relative positions are part of the bias. The guard against rows that may attend to nothing goes, too: masks
    are the lowest finite number, with which Softmax gives no NaN.

    Run on the trace, before binding: see :class:`~propetl.export.passes.fuse_attention.FuseAttention`.

    Requires: shapes on the values between inputs and outputs; keys that are transposed by one operator, as
    :class:`~propetl.export.passes.transpose_once.TransposeOnce` leaves them.
    Ensures: no Softmax whose inputs are products is left.
    """

    def requires(self, model: ir.Model) -> None:
        """Checks that shapes are there: they tell the number of heads."""
        require_shapes(model)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fuses each attention."""
        found = [match for node in model.graph if (match := _match(node)) is not None]
        for match in found:
            _replace(model.graph, match)
        if found:
            model.opset_imports[ONNXRUNTIME_DOMAIN] = 1
        ir.passes.common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one that is left."""
        for node in model.graph:
            if node.op_type == "Softmax" and _scores_of(node) is not None:
                raise ir.passes.PostconditionError(f"{node.name} is an attention that did not match")


def _scores_of(softmax: ir.Node) -> tuple[ir.Node, ir.Value] | None:
    """The product of query and key, and what is added to it."""
    added = made_by(softmax.inputs[0], "Add")
    product = made_by(added.inputs[0], "MatMul") if added is not None else None
    bias = added.inputs[1] if added is not None else None
    return (product, bias) if product is not None and bias is not None else None


def _match(softmax: ir.Node) -> _Attention | None:
    scores = _scores_of(softmax) if softmax.op_type == "Softmax" else None
    weighted = _after_guard(softmax)
    if scores is None or weighted is None:
        return None
    product, bias = scores
    query, query_scale = _without_scale(product.inputs[0])
    transposed, key_scale = _without_scale(product.inputs[1])
    key, last = _transposed_back(transposed), _joined_heads(weighted)
    value = weighted.inputs[1]
    if query is None or key is None or value is None or last is None or not isinstance(_heads(query), int):
        return None
    return _Attention(query, key, value, bias, query_scale * key_scale, last)


def _reader(value: ir.Value, fits: Callable[[ir.Node], bool]) -> ir.Node | None:
    """The node that reads ``value``, if it is the only one, and one that ``fits``."""
    nodes = [use.node for use in value.uses()]
    return nodes[0] if len(nodes) == 1 and fits(nodes[0]) else None


def _after_guard(softmax: ir.Node) -> ir.Node | None:
    """The product with the values, behind ``Where(IsNaN(p), 0, p)`` if that is there."""
    weights = softmax.outputs[0]
    readers = {use.node.op_type: use.node for use in weights.uses()}
    if readers.keys() == {"IsNaN", "Where"}:
        weights = readers["Where"].outputs[0]
    return _reader(weights, lambda node: node.op_type == "MatMul" and node.inputs[0] is weights)


def _without_scale(value: ir.Value | None) -> tuple[ir.Value | None, float]:
    """What is multiplied by a constant number, and the number."""
    node = made_by(value, "Mul")
    factor = node.inputs[1].const_value if node is not None and node.inputs[1] is not None else None
    if node is None or factor is None or factor.size != 1:
        return value, 1.0
    return node.inputs[0], float(factor.numpy().item())


def _transposed_back(value: ir.Value | None) -> ir.Value | None:
    """``key`` of ``key.T``."""
    swapped = made_by(value, "Transpose")
    return swapped.inputs[0] if swapped is not None and _axes(swapped) == _SWAPPED else None


def _joined_heads(weighted: ir.Node) -> ir.Node | None:
    """The Reshape that puts the heads' results side by side, after ``weighted @ value``."""
    value = weighted.outputs[0]
    same = _reader(value, lambda node: node.op_type == "Reshape")
    value = same.outputs[0] if same is not None else value
    back = _reader(value, lambda node: node.op_type == "Transpose" and _axes(node) == _HEADS_INSIDE)
    return _reader(back.outputs[0], lambda node: node.op_type == "Reshape") if back is not None else None


def _axes(transpose: ir.Node) -> list[int]:
    return list(transpose.attributes["perm"].as_ints())


def _heads(query: ir.Value) -> int | None:
    size = query.shape[1] if query.shape is not None and len(query.shape) == 4 else None
    return size if isinstance(size, int) else None


def _replace(graph: ir.Graph, match: _Attention) -> None:
    tape = ir.tape.Tape()
    inputs = [_side_by_side(tape, graph, match.query), match.key, match.value, None, None, match.bias]
    attributes = {"num_heads": _heads(match.query), "scale": match.scale}
    joined = tape.op("MultiHeadAttention", inputs, attributes, domain=ONNXRUNTIME_DOMAIN)  # [batch, seq, heads * size]
    old = match.last.outputs[0]
    result = (
        joined if old.shape is not None and len(old.shape) == 3 else tape.op("Reshape", [joined, match.last.inputs[1]])
    )
    result.type, result.shape = old.type, old.shape
    ir.convenience.replace_nodes_and_values(graph, match.last, [match.last], tape.nodes, [old], [result])


def _side_by_side(tape: ir.tape.Tape, graph: ir.Graph, query: ir.Value) -> ir.Value:
    """``[batch, seq, heads * size]``: what the heads of ``query`` were cut out of, where that is there."""
    outside = made_by(query, "Transpose")
    cut = made_by(outside.inputs[0], "Reshape") if outside is not None and _axes(outside) == _HEADS_INSIDE else None
    whole = cut.inputs[0] if cut is not None else None
    if whole is not None and whole.shape is not None and len(whole.shape) == 3:
        return whole
    flat = ir.tensor([0, 0, -1], dtype=ir.DataType.INT64, name="heads_side_by_side")
    shape = graph.initializers.get(str(flat.name)) or ir.Value(name=flat.name, const_value=flat)
    graph.register_initializer(shape)
    return tape.op("Reshape", [tape.op("Transpose", [query], {"perm": _HEADS_INSIDE}), shape])
