"""States the shapes that are computed in every call and known beforehand."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir

_AS_BEFORE = 0  # in a shape for Reshape that does not "allow zero"


class StateReshapes(ir.passes.InPlacePass):
    """Gives a ``Reshape`` a constant in place of a computed shape, where the shapes around it say which.

    A size may be a number, or that of the same axis before. What computed the shape goes, and an engine that infers
    shapes follows them through: it then reuses memory, and fuses what it knows to be of one shape.

    Requires: nothing.
    Ensures: no reshape is left whose shape could be stated.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Puts a constant in place of each."""
        known = [(node, sizes) for node in model.graph if (sizes := _stated(node)) is not None]
        for node, sizes in known:
            name = f"shape_{'x'.join(map(str, sizes))}"
            node.replace_input_with(1, _constant(model.graph, name, sizes))
            node.attributes.pop("allowzero", None)
        if known:
            ir.passes.common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(known))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one."""
        for node in model.graph:
            if _stated(node) is not None:
                raise ir.passes.PostconditionError(f"the shape of {node.name} is still computed")


def _stated(node: ir.Node) -> list[int] | None:
    """The sizes that a reshape with a computed shape could be given; None for all else."""
    if node.op_type != "Reshape" or node.inputs[1] is None or node.inputs[1].producer() is None:
        return None
    before, after = node.inputs[0], node.outputs[0]
    if before is None or before.shape is None or after.shape is None:
        return None
    sizes = [_size(size, axis, before.shape) for axis, size in enumerate(after.shape)]
    return None if None in sizes else [size for size in sizes if size is not None]


def _size(size: int | ir.SymbolicDim, axis: int, before: ir.Shape) -> int | None:
    if isinstance(size, int):
        return size or None  # a size of zero would say "as before"
    same = axis < len(before) and size.value is not None and before[axis] == size
    return _AS_BEFORE if same else None


def _constant(graph: ir.Graph, name: str, sizes: Sequence[int]) -> ir.Value:
    if name not in graph.initializers:
        graph.register_initializer(ir.Value(name=name, const_value=ir.tensor(np.array(sizes, dtype=np.int64))))
    return graph.initializers[name]
