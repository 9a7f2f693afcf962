"""The half of a graph that the text runs through: it takes the weights that the task's half gives."""

from collections.abc import Sequence

import onnx_ir as ir

from propetl.export.passes.keep_task import APPLIED, crossing


class KeepText(ir.passes.InPlacePass):
    """Leaves what depends on the text, with what the task decided as inputs: the other half of ``KeepTask``.

    Requires: the graph's task inputs reach its output, and what crosses has type, shape and a name to get.
    Ensures: inputs are the text's and ``applied.0``, ``applied.1``, …; every one of the latter is used.
    """

    def __init__(self, text_inputs: Sequence[str], names: Sequence[str] | None = None) -> None:
        """Chooses what is text, and how what crosses is called.

        Args:
            text_inputs: by name; all other inputs are the task's.
            names: of what crosses, in the order of the graph, where it comes from a stage that several graphs share;
                values of one name are one input. None for 0, 1, 2, …
        """
        super().__init__()
        self.text_inputs = tuple(text_inputs)
        self.names = names

    def requires(self, model: ir.Model) -> None:
        """Looks for values that pass from one half to the other, and for what is known of them."""
        values = crossing(model, self.text_inputs)
        if not values:
            raise ir.passes.PreconditionError("the task decides nothing: no value of it meets the text")
        if vague := [value.name for value in values if value.shape is None or value.type is None]:
            raise ir.passes.PreconditionError(f"type or shape is not known of {vague}")
        if self.names is not None and len(self.names) != len(values):
            raise ir.passes.PreconditionError(f"{len(values)} values cross, and have {len(self.names)} names")

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Makes the crossing values inputs, and drops what made them."""
        graph, values = model.graph, crossing(model, self.text_inputs)
        names = [f"{APPLIED}{index}" for index in range(len(values))] if self.names is None else self.names
        taken: dict[str, ir.Value] = {}
        for name, value in zip(names, values, strict=True):
            taken.setdefault(name, ir.Value(name=name, shape=value.shape, type=value.type))
            value.replace_all_uses_with(taken[name])
        graph.inputs.extend(taken.values())
        ir.passes.common.RemoveUnusedNodesPass()(model)
        kept = [value for value in graph.inputs if self._is_mine(value)]
        graph.inputs.clear()
        graph.inputs.extend(kept)
        return ir.passes.PassResult(model, True)

    def ensures(self, model: ir.Model) -> None:
        """Looks for other inputs, and for idle ones."""
        for value in model.graph.inputs:
            if not self._is_mine(value) or (value.name not in self.text_inputs and not value.uses()):
                raise ir.passes.PostconditionError(f"{value.name} is an input")

    def _is_mine(self, value: ir.Value) -> bool:
        return value.name in self.text_inputs or str(value.name).startswith(APPLIED)
