"""Forgets the shapes of intermediate values, which binding made untrue."""

from collections.abc import Iterator

import onnx_ir as ir


class DropStaleShapes(ir.passes.InPlacePass):
    """Clears type and shape of every value that is neither input, output nor constant.

    An engine trusts what is written there: ONNX Runtime reuses buffers by it and fails if it is wrong
    ("Shape mismatch attempting to re-use buffer"). Engines and the ONNX checker infer the shapes anew.

    Requires: nothing.
    Ensures: only the interface and constants carry shapes.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Clears them."""
        stale = list(_shaped_between(model))
        for value in stale:
            value.shape = None
            value.type = None
        return ir.passes.PassResult(model, bool(stale))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a shape that is left."""
        for value in _shaped_between(model):
            raise ir.passes.PostconditionError(f"{value.name!r} still has a shape")


def _shaped_between(model: ir.Model) -> Iterator[ir.Value]:
    outputs = set(model.graph.outputs)
    for node in model.graph:
        yield from (value for value in node.outputs if value not in outputs and value.shape is not None)
