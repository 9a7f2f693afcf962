"""Computes now what does not depend on the text: bound masks vanish into the prototype's weights here."""

from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray
from onnx.reference import ReferenceEvaluator
from onnx_ir.passes.common import LiftConstantsToInitializersPass, RemoveUnusedNodesPass
from onnxscript import optimizer

# The optimiser leaves large results alone unless told otherwise; folded weights are just what is wanted here.
_NO_LIMIT = 1 << 62

# Results that a tensor's value decides, not only its inputs being constant; and integers that are to stay such.
_NEVER_FOLDED = frozenset(
    {"RandomNormal", "RandomUniform", "RandomNormalLike", "RandomUniformLike", "Multinomial", "DequantizeLinear"}
)


class FoldConstants(ir.passes.InPlacePass):
    """Runs onnxscript's optimiser without a limit on sizes, and ONNX's evaluator on the operators that it leaves.

    Those have several outputs, such as LayerNormalization and Split, or are defined by others, such as Gelu.

    Requires: a graph without functions.
    Ensures: no operator of ONNX is left whose inputs are all constants; the outputs' sizes are called as before.
    """

    def requires(self, model: ir.Model) -> None:
        """Checks that everything is inlined."""
        if model.functions:
            raise ir.passes.PreconditionError(f"{len(model.functions)} functions are not inlined")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Folds until nothing changes."""
        before, stated = len(model.graph), [value.shape for value in model.graph.outputs]
        _optimise(model)
        if _evaluate_left(model):
            _optimise(model)
        for value, shape in zip(model.graph.outputs, stated, strict=True):
            value.shape = shape  # the optimiser prefers names that the tracer left inside
        return ir.passes.PassResult(model, len(model.graph) != before)

    def ensures(self, model: ir.Model) -> None:
        """Looks for what could still be folded."""
        for node in model.graph:
            if _is_constant(node):
                raise ir.passes.PostconditionError(f"{node.op_type} ({node.name}) has constant inputs only")


def _optimise(model: ir.Model) -> None:
    """One round of rules, which take most of the time, then folding alone: a further round finds nothing for them."""
    optimizer.optimize_ir(model, num_iterations=1, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    optimizer.fold_constants_ir(model, input_size_limit=_NO_LIMIT, output_size_limit=_NO_LIMIT)
    ir.passes.Sequential(
        RemoveUnusedNodesPass(), LiftConstantsToInitializersPass(lift_all_constants=True, size_limit=0)
    )(model)


def _is_constant(node: ir.Node) -> bool:
    inputs = [value for value in node.inputs if value is not None]
    constant = bool(inputs) and all(value.const_value is not None for value in inputs)
    return constant and node.op_type not in _NEVER_FOLDED and node.domain in ("", "ai.onnx")


def _evaluate_left(model: ir.Model) -> bool:
    """Puts constants in the place of operators on constants; whether there was one."""
    folded = False
    for node in list(model.graph):  # in the order of computation: what one gives is a constant for the next
        if _is_constant(node):
            _replace_by_constants(model.graph, node)
            folded = True
    return folded


def _replace_by_constants(graph: ir.Graph, node: ir.Node) -> None:
    for value, array in zip(node.outputs, _evaluated(graph, node), strict=True):
        name = str(value.name)
        value.name = f"{name}.computed"
        held = ir.Value(name=name, const_value=ir.tensor(array, name=name))
        held.type, held.shape = ir.TensorType(ir.DataType.from_numpy(array.dtype)), ir.Shape(array.shape)
        graph.register_initializer(held)
        value.replace_all_uses_with(held, replace_graph_outputs=True)
    graph.remove(node, safe=True)


def _evaluated(graph: ir.Graph, node: ir.Node) -> list[NDArray[Any]]:
    """What ``node`` gives, by ONNX's own evaluator."""
    here: dict[ir.Value | None, ir.Value | None] = {None: None}
    for value in node.inputs:
        if value is not None and value.const_value is not None:
            type_, shape = ir.TensorType(value.const_value.dtype), ir.Shape(value.const_value.shape.numpy())
            here[value] = ir.Value(name=value.name, type=type_, shape=shape, const_value=value.const_value)
    copied = ir.Node(
        node.domain,
        node.op_type,
        [here[value] for value in node.inputs],
        list(node.attributes.values()),
        outputs=[ir.Value(name=value.name, type=value.type) for value in node.outputs],
    )
    held = [value for value in here.values() if value is not None]
    alone = ir.Graph([], copied.outputs, nodes=[copied], initializers=held, opset_imports=dict(graph.opset_imports))
    return list(ReferenceEvaluator(ir.to_proto(ir.Model(alone, ir_version=10))).run(None, {}))
