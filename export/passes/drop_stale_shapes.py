"""Forgets the shapes of intermediate values, which binding made untrue."""

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
        outputs = set(model.graph.outputs)
        stale = [
            value for node in model.graph for value in node.outputs if value not in outputs and value.shape is not None
        ]
        for value in stale:
            value.shape = None
            value.type = None
        return ir.passes.PassResult(model, bool(stale))
