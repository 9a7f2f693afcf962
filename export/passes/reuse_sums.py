"""Adds to a sum that is there anyway, instead of adding its parts one by one."""

from collections.abc import Iterator

import onnx_ir as ir

from propetl.export.passes.reading import made_by


class ReuseSums(ir.passes.InPlacePass):
    """Replaces ``(a + b) + c`` by ``a + (b + c)`` where ``b + c`` is there and ``a + b`` serves nothing else.

    An adapter adds what it makes to its input, and the layer then adds its residual; its input's normalisation has
    added these two already. Floats are rounded in another order, by the last digit.

    Requires: nothing.
    Ensures: no such sum is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Takes each sum in the order of the graph, so that one found serves those behind it."""
        before = _Sums(model.graph)
        changed = False
        for node in model.graph:
            for inner, first, known in before.ways_to_make(node):
                node.replace_input_with(0, first)
                node.replace_input_with(1, known)
                model.graph.remove(inner, safe=True)
                changed = True
                break
            before.add(node)
        return ir.passes.PassResult(model, changed)

    def ensures(self, model: ir.Model) -> None:
        """Looks for a sum of parts of which two were added before."""
        before = _Sums(model.graph)
        for node in model.graph:
            if any(before.ways_to_make(node)):
                raise ir.passes.PostconditionError(f"{node.name} adds parts of a sum that is there")
            before.add(node)


class _Sums:
    """The sums of a graph that come before a place in it."""

    def __init__(self, graph: ir.Graph) -> None:
        self._by_parts: dict[frozenset[ir.Value], ir.Value] = {}
        self._outputs = set(graph.outputs)

    def add(self, node: ir.Node) -> None:
        if _is_sum(node):
            self._by_parts.setdefault(frozenset(_parts(node)), node.outputs[0])

    def ways_to_make(self, node: ir.Node) -> Iterator[tuple[ir.Node, ir.Value, ir.Value]]:
        """``node`` as ``a`` and a known sum: the inner sum that it would do without, ``a``, and the known one."""
        if not _is_sum(node):
            return
        one, other = _parts(node)
        for outer_part, last in ((one, other), (other, one)):
            inner = made_by(outer_part, "Add")
            if inner is None or not _is_sum(inner) or not self._serves_once(inner):
                continue
            left, right = _parts(inner)
            for first, second in ((left, right), (right, left)):
                known = self._by_parts.get(frozenset((second, last)))
                if known is not None and known is not inner.outputs[0]:
                    yield inner, first, known

    def _serves_once(self, node: ir.Node) -> bool:
        value = node.outputs[0]
        return len(value.uses()) == 1 and value not in self._outputs


def _is_sum(node: ir.Node) -> bool:
    """Whether it adds two floats: integers that are added are positions and shapes, which other passes look at."""
    return node.op_type == "Add" and node.domain == "" and node.outputs[0].dtype == ir.DataType.FLOAT


def _parts(node: ir.Node) -> tuple[ir.Value, ir.Value]:
    left, right = node.inputs
    assert left is not None and right is not None
    return left, right
