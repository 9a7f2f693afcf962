"""Binding rows: a bank of all tasks, from which every row of a batch picks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.runtime.signatures import BATCH, TASK_ID


class PickRows(ir.passes.InPlacePass):
    """Takes the task's tensors from a bank by an input ``task_id``: int64 ``[batch]``, a row of the bank for each.

    A row whose ``task_id`` is not in the bank answers with no numbers: what is picked then differs from engine to
    engine, the last task or zeros, and would be an answer like any other. An engine that checks indices refuses it.

    Requires: every name is an input with a leading axis of rows, and the first output has one of the batch.
    Ensures: none of the names is an input any more; ``task_id`` is. Outputs have the sizes that the bank fixes.
    """

    def __init__(self, bank: Mapping[str, NDArray[Any]], tasks: int) -> None:
        """``bank`` by input name, ``[tasks, ...]``; empty where tasks own no tensors."""
        super().__init__()
        self.bank = dict(bank)
        self.tasks = tasks

    def requires(self, model: ir.Model) -> None:
        """Checks names and number of axes."""
        inputs = {value.name: value for value in model.graph.inputs}
        for name, array in self.bank.items():
            if name not in inputs:
                raise ir.passes.PreconditionError(f"{name!r} is not an input of the graph: {sorted(map(str, inputs))}")
            axes = len(inputs[name].shape or ())
            if axes != array.ndim:
                raise ir.passes.PreconditionError(f"{name}: has {axes} axes, got {array.ndim}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Puts a Gather where the input was."""
        graph, sizes = model.graph, self._sizes(model)
        task_id = ir.Value(name=TASK_ID, shape=ir.Shape([BATCH]), type=ir.TensorType(ir.DataType.INT64))
        for value in [value for value in graph.inputs if value.name in self.bank]:
            name = str(value.name)
            graph.inputs.remove(value)
            held = ir.Value(name=f"bank.{name}", const_value=ir.tensor(np.ascontiguousarray(self.bank[name])))
            graph.register_initializer(held)
            picked = ir.node("Gather", [held, task_id], attributes={"axis": 0})
            value.replace_all_uses_with(picked.outputs[0])
            graph.insert_before(graph[0], picked)
        graph.inputs.append(task_id)
        for output in graph.outputs:
            if output.shape is not None:
                output.shape = ir.Shape([sizes.get(str(size), size) for size in output.shape])
        _spoil_outside(graph, task_id, self.tasks)
        return ir.passes.PassResult(model, True)

    def _sizes(self, model: ir.Model) -> dict[str, int]:
        """What the bank says of free sizes behind the leading axis, such as the number of labels."""
        inputs = {str(value.name): value for value in model.graph.inputs}
        pairs = ((inputs[name].shape or (), array.shape) for name, array in self.bank.items())
        return {
            str(size): found
            for sizes, shape in pairs
            for size, found in zip(list(sizes)[1:], shape[1:], strict=True)
            if not isinstance(size, int)
        }

    def ensures(self, model: ir.Model) -> None:
        """Checks the inputs that are left."""
        names = {value.name for value in model.graph.inputs}
        if names & set(self.bank) or TASK_ID not in names:
            raise ir.passes.PostconditionError(f"inputs are {sorted(map(str, names))}")


def _spoil_outside(graph: ir.Graph, task_id: ir.Value, tasks: int) -> None:
    """Adds to the first output 0, or NaN in rows whose task is not one of ``tasks``: the root of minus 1.

    Neither the constant NaN nor 0 / 0: an engine may refuse the one and simplify the other.
    """
    output = graph.outputs[0]
    axes = len(output.shape or ())
    zero, end, behind = (_constant(number) for number in (0, tasks, list(range(1, axes))))
    below = ir.node("Less", [task_id, zero.outputs[0]])
    beyond = ir.node("GreaterOrEqual", [task_id, end.outputs[0]])
    outside = ir.node("Or", [below.outputs[0], beyond.outputs[0]])
    as_float = ir.node("Cast", [outside.outputs[0]], attributes={"to": ir.DataType.FLOAT})
    negative = ir.node("Neg", [as_float.outputs[0]])
    spoiled = ir.node("Sqrt", [negative.outputs[0]])  # [batch]
    by_row = ir.node("Unsqueeze", [spoiled.outputs[0], behind.outputs[0]])  # [batch, 1, ...]
    answer = ir.node("Add", [output, by_row.outputs[0]])
    graph.extend([zero, end, behind, below, beyond, outside, as_float, negative, spoiled, by_row, answer])
    given, name = answer.outputs[0], str(output.name)
    output.name, given.name, given.type, given.shape = f"{name}.unchecked", name, output.type, output.shape
    graph.outputs[0] = given


def _constant(value: int | list[int]) -> ir.Node:
    return ir.node("Constant", [], attributes={"value": ir.tensor(np.array(value, np.int64))})
