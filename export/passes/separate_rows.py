"""Frees the task's rows from the batch: one row of weights then serves a batch of any size."""

from collections.abc import Iterator, Sequence

import onnx_ir as ir

from propetl.runtime.signatures import BATCH, ROWS


class SeparateRows(ir.passes.InPlacePass):
    """Lets the leading axis of the task's tensors be 1 while the batch is larger.

    The tracer saw both sizes equal and may read the batch from either. Here it is read from the text, and the
    leading axis of the task's tensors is called ``rows``: as long as the batch, or 1, which every operator between
    the two sides broadcasts.

    Requires: the text inputs are inputs of the graph.
    Ensures: no shape of a task's tensor is read; the axis is called ``rows``.
    """

    def __init__(self, text_inputs: Sequence[str]) -> None:
        """``text_inputs`` by name; all other inputs are the task's."""
        super().__init__()
        self.text_inputs = tuple(text_inputs)

    def requires(self, model: ir.Model) -> None:
        """Looks for the text inputs."""
        missing = set(self.text_inputs) - {value.name for value in model.graph.inputs}
        if missing:
            raise ir.passes.PreconditionError(f"not inputs of the graph: {sorted(missing)}")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Reads the batch from the first text input, and renames the axis on the task's side."""
        text = next(value for value in model.graph.inputs if value.name == self.text_inputs[0])
        modified = False
        for node in self._shapes_of_tasks(model):
            node.replace_input_with(0, text)
            modified = True
        for value in from_task(model, self.text_inputs):
            modified |= _rename(value)
        return ir.passes.PassResult(model, modified)

    def ensures(self, model: ir.Model) -> None:
        """Looks for a shape that is still read, and for an axis of the old name."""
        for node in self._shapes_of_tasks(model):
            raise ir.passes.PostconditionError(f"{node.name} reads the shape of {node.inputs[0]}")
        for value in model.graph.inputs:
            if value.name not in self.text_inputs and value.shape is not None and str(value.shape[0]) != ROWS:
                raise ir.passes.PostconditionError(f"{value} has no axis {ROWS}")

    def _shapes_of_tasks(self, model: ir.Model) -> Iterator[ir.Node]:
        """Nodes that read the batch from a task's input."""
        tasks = {value for value in model.graph.inputs if value.name not in self.text_inputs}
        yield from [node for node in model.graph if node.op_type == "Shape" and node.inputs[0] in tasks]


def from_task(model: ir.Model, text_inputs: Sequence[str]) -> dict[ir.Value, None]:
    """Inputs of the task and what is computed from them and constants alone, in the order of the graph."""
    found = {value: None for value in model.graph.inputs if value.name not in text_inputs}
    for node in model.graph:
        given = [value for value in node.inputs if value is not None and value.const_value is None]
        if given and all(value in found for value in given):
            found |= dict.fromkeys(node.outputs)
    return found


def _rename(value: ir.Value) -> bool:
    if value.shape is None or not any(str(size) == BATCH for size in value.shape):
        return False
    value.shape = ir.Shape([ROWS if str(size) == BATCH else size for size in value.shape])
    return True
