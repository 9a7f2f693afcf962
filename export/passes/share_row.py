"""Binding rows: one task for all rows of a batch."""

from collections.abc import Sequence

import numpy as np
import onnx_ir as ir


class ShareRow(ir.passes.InPlacePass):
    """Takes the leading axis off the task's inputs: the tensors of one task, as its pack has them, serve every row.

    Requires: every input of the task has a leading axis of rows.
    Ensures: none has it any more.
    """

    def __init__(self, text_inputs: Sequence[str]) -> None:
        """``text_inputs`` by name; all other inputs are the task's."""
        super().__init__()
        self.text_inputs = tuple(text_inputs)

    def requires(self, model: ir.Model) -> None:
        """Looks for inputs without an axis to take."""
        for value in self._task_inputs(model):
            if not value.shape:
                raise ir.passes.PreconditionError(f"{value.name} has no leading axis")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Puts the axis back inside the graph."""
        graph = model.graph
        axis = ir.Value(name="row_axis", const_value=ir.tensor(np.array([0], dtype=np.int64)))
        graph.register_initializer(axis)
        for value in self._task_inputs(model):
            assert value.shape is not None
            given = ir.Value(name=value.name, shape=ir.Shape(list(value.shape)[1:]), type=value.type)
            _give_axis(graph, value, given, axis)
            graph.inputs[graph.inputs.index(value)] = given
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Checks that each input is read by what gives it its axis, or by a Cast before that, and by no other.

        An encoder reads nothing of a prototype that is the decoder's.
        """
        for value in self._task_inputs(model):
            readers = [reader for node in value.consumers() for reader in _behind_cast(node)]
            if not {node.op_type for node in readers} <= {"Unsqueeze"}:
                raise ir.passes.PostconditionError(f"{value.name} keeps its axis")

    def _task_inputs(self, model: ir.Model) -> list[ir.Value]:
        return [value for value in model.graph.inputs if value.name not in self.text_inputs]


def _give_axis(graph: ir.Graph, value: ir.Value, given: ir.Value, axis: ir.Value) -> None:
    """Lets what read ``value`` read ``given`` with an axis in front.

    Behind the Cast where there is one: TensorRT does nothing with bytes but cast them.
    """
    for node in list(value.consumers()):
        if node.op_type == "Cast":
            node.replace_input_with(0, given)
            node.outputs[0].shape = None
            one = ir.node("Unsqueeze", [node.outputs[0], axis])
            readers = [use for use in node.outputs[0].uses() if use.node is not one]
            for use in readers:
                use.node.replace_input_with(use.idx, one.outputs[0])
            graph.insert_after(node, one)
    if value.uses():
        one = ir.node("Unsqueeze", [given, axis])
        value.replace_all_uses_with(one.outputs[0])
        graph.insert_before(graph[0], one)


def _behind_cast(node: ir.Node) -> list[ir.Node]:
    return list(node.outputs[0].consumers()) if node.op_type == "Cast" else [node]
