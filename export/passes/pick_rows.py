"""Binding rows: a bank of all tasks, from which every row of a batch picks."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.runtime.signatures import BATCH, TASK_ID


class PickRows(ir.passes.InPlacePass):
    """Takes the task's tensors from a bank by an input ``task_id``: int64 ``[batch]``, a row of the bank for each.

    Requires: every name is an input with a leading axis of rows.
    Ensures: none of the names is an input any more; ``task_id`` is. Outputs have the sizes that the bank fixes.
    """

    def __init__(self, bank: Mapping[str, NDArray[Any]]) -> None:
        """``bank`` by input name, ``[tasks, ...]``."""
        super().__init__()
        self.bank = dict(bank)

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
