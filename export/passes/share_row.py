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
            one = ir.node("Unsqueeze", [given, axis])
            value.replace_all_uses_with(one.outputs[0])
            graph.insert_before(graph[0], one)
            graph.inputs[graph.inputs.index(value)] = given
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Checks that each input is used by the operator that gives it its axis, and by no other."""
        for value in self._task_inputs(model):
            if {node.op_type for node in value.consumers()} != {"Unsqueeze"}:
                raise ir.passes.PostconditionError(f"{value.name} keeps its axis")

    def _task_inputs(self, model: ir.Model) -> list[ir.Value]:
        return [value for value in model.graph.inputs if value.name not in self.text_inputs]
