"""Forgets the shapes of intermediate values, which binding made untrue."""

from collections.abc import Collection, Iterator

import onnx_ir as ir


class DropStaleShapes(ir.passes.InPlacePass):
    """Clears type and shape of values that are neither input, output nor constant, but for those known to be true.

    An engine trusts what is written there: ONNX Runtime reuses buffers by it and fails if it is wrong
    ("Shape mismatch attempting to re-use buffer"). Engines and the ONNX checker infer the shapes anew. What they cannot
    find, such as the size of a slice as long as the text, the tracer knew: without it ONNX Runtime takes all that comes
    after for different in size, reuses no memory, and plans a session for twice as long.

    Requires: nothing.
    Ensures: only the interface, constants and values of true sizes carry shapes.
    """

    def __init__(self, true_sizes: Collection[str] = ()) -> None:
        """``true_sizes``: names of sizes; shapes of these and of numbers alone are kept. None is, if there are none."""
        super().__init__()
        self.true_sizes = frozenset(true_sizes)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Clears them."""
        stale = list(self._stale(model))
        for value in stale:
            value.shape = None
            value.type = None
        return ir.passes.PassResult(model, bool(stale))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a shape that is left."""
        for value in self._stale(model):
            raise ir.passes.PostconditionError(f"{value.name!r} still has a shape")

    def _stale(self, model: ir.Model) -> Iterator[ir.Value]:
        for value in _shaped_between(model):
            assert value.shape is not None
            if not self.true_sizes or not all(isinstance(size, int) or self._is_true(size) for size in value.shape):
                yield value

    def _is_true(self, size: ir.SymbolicDim) -> bool:
        return size.value in self.true_sizes


def _shaped_between(model: ir.Model) -> Iterator[ir.Value]:
    outputs = set(model.graph.outputs)
    for node in model.graph:
        yield from (value for value in node.outputs if value not in outputs and value.shape is not None)
