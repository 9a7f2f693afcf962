"""The half of a graph that a task decides alone: masks to the weights that run."""

from collections.abc import Sequence

import onnx_ir as ir

from propetl.export.passes.separate_rows import from_task

APPLIED = "applied."
"""Prefix of what one half gives and the other takes."""


class KeepTask(ir.passes.InPlacePass):
    """Leaves what depends on the task alone, with the values where text comes in as outputs.

    Run once when a task is switched to, it takes that work out of every inference.

    Requires: some of the graph's task inputs reach its output; an encoder reads nothing of the decoder's prototype.
    Ensures: no text input is left; every input is used; outputs are called ``applied.0``, ``applied.1``, …
    """

    def __init__(self, text_inputs: Sequence[str]) -> None:
        """``text_inputs`` by name; all other inputs are the task's."""
        super().__init__()
        self.text_inputs = tuple(text_inputs)

    def requires(self, model: ir.Model) -> None:
        """Looks for a value that passes from one half to the other."""
        if not crossing(model, self.text_inputs):
            raise ir.passes.PreconditionError("the task decides nothing: no value of it meets the text")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Makes the crossing values outputs, and drops what only the text needs."""
        graph, values = model.graph, crossing(model, self.text_inputs)
        graph.outputs.clear()
        for index, value in enumerate(values):
            graph.outputs.append(_named(graph, value, f"{APPLIED}{index}"))
        ir.passes.common.RemoveUnusedNodesPass()(model)
        for value in [value for value in graph.inputs if value.name in self.text_inputs or _is_idle(value, model)]:
            graph.inputs.remove(value)
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Looks for text, for idle inputs and for names."""
        for value in model.graph.inputs:
            if value.name in self.text_inputs or _is_idle(value, model):
                raise ir.passes.PostconditionError(f"{value.name} is still an input")
        found = [value.name for value in model.graph.outputs]
        if found != [f"{APPLIED}{index}" for index in range(len(found))]:
            raise ir.passes.PostconditionError(f"outputs are {found}")


def _is_idle(value: ir.Value, model: ir.Model) -> bool:
    return not value.uses() and value not in model.graph.outputs


def crossing(model: ir.Model, text_inputs: Sequence[str]) -> list[ir.Value]:
    """Values that the task decides alone and that an operator on the text's side reads, in the order of the graph."""
    mine = from_task(model, text_inputs)
    outputs = set(model.graph.outputs)
    return [
        value
        for value in mine
        if value in outputs or any(use.node.outputs and use.node.outputs[0] not in mine for use in value.uses())
    ]


def _named(graph: ir.Graph, value: ir.Value, name: str) -> ir.Value:
    """``value`` under ``name``; an input keeps its own and is passed through."""
    if not value.is_graph_input():
        value.name = name
        return value
    passed = ir.node("Identity", [value])
    passed.outputs[0].name, passed.outputs[0].type, passed.outputs[0].shape = name, value.type, value.shape
    graph.append(passed)
    return passed.outputs[0]
