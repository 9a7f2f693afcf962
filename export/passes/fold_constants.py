"""Computes now what does not depend on the text: bound masks vanish into the prototype's weights here."""

import onnx_ir as ir
from onnxscript import optimizer

# The optimiser leaves large results alone unless told otherwise; folded weights are just what is wanted here.
_NO_LIMIT = 1 << 62

# Results that a tensor's value decides, not only its inputs being constant; and integers that are to stay such.
_NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "DequantizeLinear"}
)


class FoldConstants(ir.passes.InPlacePass):
    """Runs onnxscript's optimiser without a limit on sizes.

    Requires: a graph without functions.
    Ensures: no operator is left whose inputs are all constants; the outputs' sizes are called as before.
    """

    def requires(self, model: ir.Model) -> None:
        """Checks that everything is inlined."""
        if model.functions:
            raise ir.passes.PreconditionError(f"{len(model.functions)} functions are not inlined")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds until nothing changes."""
        before, stated = len(model.graph), [value.shape for value in model.graph.outputs]
        optimizer.optimize_ir(model, num_iterations=8, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
        for value, shape in zip(model.graph.outputs, stated, strict=True):
            value.shape = shape  # the optimiser prefers names that the tracer left inside
        return ir.passes.PassResult(model, len(model.graph) != before)

    def ensures(self, model: ir.Model) -> None:
        """Looks for what could still be folded."""
        for node in model.graph:
            inputs = [value for value in node.inputs if value is not None]
            constant = inputs and all(value.const_value is not None for value in inputs)
            if constant and node.op_type not in _NEVER_FOLDED:
                raise ir.passes.PostconditionError(f"{node.op_type} ({node.name}) has constant inputs only")
