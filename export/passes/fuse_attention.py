"""Puts attention between its projections into the one operator that ONNX Runtime has for it."""

from collections import Counter

import onnx_ir as ir
from onnxscript import optimizer, rewriter
from onnxscript.rewriter.ort_fusions import ORT_PATTERN_REWRITE_RULES, mha, mha_scale, sdpa, shape_optimization

from propetl.export.passes.reading import require_shapes
from propetl.runtime.operators import ONNXRUNTIME_DOMAIN

# The rewriter's own half-way operators; one that is left would run nowhere.
_HALF_WAY = "ai.onnxruntime._fusion"


class FuseAttention(ir.passes.InPlacePass):
    """Runs onnxscript's fusions of attention, and of products with their transpositions.

    Not its others: a fused ``SkipLayerNormalization`` or ``BiasGelu`` takes longer on a CPU than the two standard
    operators do (docs/compiler.md has figures), and where one is faster, as on a GPU, ONNX Runtime fuses it
    itself. Neither the projections' biases: the library also takes LoRA's output for one.

    Run before binding, on the trace: the fusions look at shapes, which binding makes untrue, and one run serves
    every task.

    Requires: shapes on the values between inputs and outputs.
    Ensures: no functions and none of the rewriter's half-way operators.
    """

    def requires(self, model: ir.Model) -> None:
        """Checks that shapes are there, without which nothing would match."""
        require_shapes(model)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Fuses, in the library's order."""
        before = fused_operators(model)
        ir.passes.common.ShapeInferencePass()(model)
        shape_optimization.rules.apply_to_model(model)
        optimizer.optimize_ir(model)
        ir.passes.common.CommonSubexpressionEliminationPass()(model)
        sdpa.fuse_sdpa(model, apply_shape_inference=True)
        for fuse in (mha.fuse_mha1, mha.fuse_mha2, mha_scale.fuse_mha_scale):
            fuse(model)
        rewriter.rewrite(model, ORT_PATTERN_REWRITE_RULES)
        return ir.passes.PassResult(model, fused_operators(model) != before)

    def ensures(self, model: ir.Model) -> None:
        """Looks for what ONNX Runtime could not run."""
        left = [node.op_type for node in model.graph if node.domain == _HALF_WAY]
        if left or model.functions:
            raise ir.passes.PostconditionError(f"half-way operators are left: {left or list(model.functions)}")


def fused_operators(model: ir.Model) -> Counter[str]:
    """How many of each operator only ONNX Runtime knows."""
    return Counter(node.op_type for node in model.graph if node.domain == ONNXRUNTIME_DOMAIN)
