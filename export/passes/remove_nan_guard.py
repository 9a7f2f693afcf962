"""Removes the exporter's guard against rows of attention that may look at nothing."""

import onnx_ir as ir


class RemoveNanGuard(ir.passes.InPlacePass):
    """Replaces ``Where(IsNaN(p), 0, p)``, with ``p`` a Softmax, by ``p``.

    Softmax gives NaN only where a query may attend to no key at all. Text inputs always have at least one real
    token in a row, so this cannot happen; the guard costs two passes over ``[batch, heads, seq, seq]`` per layer.

    Requires: nothing.
    Ensures: no ``IsNaN`` reads a Softmax.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Rewires the users of each guard."""
        guards = [node for node in model.graph if _is_guard(node)]
        for where in guards:
            condition, _, probabilities = where.inputs
            assert condition is not None and probabilities is not None
            is_nan = condition.producer()
            assert is_nan is not None
            where.outputs[0].replace_all_uses_with(probabilities, replace_graph_outputs=True)
            model.graph.remove(where, safe=True)
            if not is_nan.outputs[0].uses():
                model.graph.remove(is_nan, safe=True)
        return ir.passes.PassResult(model, bool(guards))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a guard that is left."""
        for node in model.graph:
            if node.op_type == "IsNaN" and _is_softmax(node.inputs[0]):
                raise ir.passes.PostconditionError(f"{node.name} still guards a Softmax")


def _is_guard(node: ir.Node) -> bool:
    if node.op_type != "Where":
        return False
    condition, zero, otherwise = node.inputs
    test = condition.producer() if condition is not None else None
    if test is None or test.op_type != "IsNaN" or test.inputs[0] is not otherwise:
        return False
    return _is_softmax(otherwise) and _is_zero(zero)


def _is_softmax(value: ir.Value | None) -> bool:
    producer = value.producer() if value is not None else None
    return producer is not None and producer.op_type == "Softmax"


def _is_zero(value: ir.Value | None) -> bool:
    tensor = value.const_value if value is not None else None
    return tensor is not None and tensor.size == 1 and not tensor.numpy().any()
