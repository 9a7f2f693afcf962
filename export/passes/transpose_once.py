"""Removes the exporter's detour over three axes where keys are transposed."""

import onnx_ir as ir

from propetl.export.passes.reading import made_by

_SWAP_LAST_OF_3 = (0, 2, 1)
_SWAP_LAST_OF_4 = (0, 1, 3, 2)


class TransposeOnce(ir.passes.InPlacePass):
    """Replaces ``Reshape(Transpose(Reshape(x)))``, over three axes and back to four, by one ``Transpose``.

    The exporter writes the transposed keys ``[batch, heads, size, sequence]`` of attention so, with shapes that it
    computes anew in each layer: nine operators for one.

    Requires: nothing.
    Ensures: no such detour is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Puts one operator in place of each detour; what it leaves idle goes too."""
        detours = [(node, source) for node in model.graph if (source := _source(node)) is not None]
        for last, source in detours:
            transpose = ir.node("Transpose", [source], attributes={"perm": _SWAP_LAST_OF_4})
            out = transpose.outputs[0]
            out.type, out.shape = source.type, _swapped(source)
            model.graph.insert_before(last, transpose)
            last.outputs[0].replace_all_uses_with(out, replace_graph_outputs=True)
        if detours:
            ir.passes.common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(detours))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a detour."""
        for node in model.graph:
            if _source(node) is not None:
                raise ir.passes.PostconditionError(f"{node.name} still ends a detour")


def _source(last: ir.Node) -> ir.Value | None:
    """What a detour that ends in ``last`` transposes; None if none does."""
    swap = made_by(last.inputs[0], "Transpose") if last.op_type == "Reshape" else None
    first = made_by(swap.inputs[0], "Reshape") if swap is not None else None
    if swap is None or first is None or tuple(swap.attributes["perm"].as_ints()) != _SWAP_LAST_OF_3:
        return None
    source = first.inputs[0]
    if source is None or source.shape is None or len(source.shape) != 4:
        return None
    flat, deep = _sizes(first.inputs[1], source), _sizes(last.inputs[1], source)
    return source if flat == ["-1", "size 2", "size 3"] and deep == ["size 0", "size 1", "size 3", "size 2"] else None


def _sizes(value: ir.Value | None, source: ir.Value) -> list[str]:
    """A computed shape, entry by entry: numbers, and sizes of ``source``; empty where it is neither."""
    node = value.producer() if value is not None else None
    if value is not None and value.const_value is not None:
        return [str(size) for size in value.const_value.numpy().reshape(-1)]
    if node is None:
        return []
    if node.op_type == "Concat":
        return [size for part in node.inputs for size in _sizes(part, source)]
    shape = made_by(node.inputs[0], "Shape") if node.op_type == "Slice" else None
    if shape is None or shape.inputs[0] is not source or not _is_whole(shape):
        return []
    bounds = [_number(bound) for bound in node.inputs[1:3]]
    return [] if None in bounds else [f"size {axis}" for axis in range(4)][slice(*bounds)]


def _is_whole(shape: ir.Node) -> bool:
    """Whether a ``Shape`` gives all sizes, and not some of them."""
    return shape.attributes.get_int("start", 0) == 0 and "end" not in shape.attributes


def _number(value: ir.Value | None) -> int | None:
    tensor = value.const_value if value is not None else None
    return int(tensor.numpy().reshape(-1)[0]) if tensor is not None and tensor.size == 1 else None


def _swapped(source: ir.Value) -> ir.Shape:
    assert source.shape is not None
    return ir.Shape([source.shape[axis] for axis in _SWAP_LAST_OF_4])
