"""Gives inputs a value that a call may leave in place or replace."""

from collections.abc import Mapping
from typing import Any

import onnx_ir as ir
from numpy.typing import NDArray

from propetl.export.passes.bind_inputs import check_fits
from propetl.export.weight_store import WeightStore


class GiveDefaults(ir.passes.InPlacePass):
    """Makes named graph inputs initialisers as well, in the shared file of weights.

    ONNX Runtime then asks for them no longer, and takes them from an active adapter where there is one. It does so
    only for inputs that have a default. Free sizes stay free: an adapter's tensor may be larger than the default.

    Requires: every name is an input of the graph, with a type and sizes that the value has.
    Ensures: each of the names is both an input and an initialiser.
    """

    def __init__(self, values: Mapping[str, NDArray[Any]], store: WeightStore) -> None:
        """``values`` by input name; ``store`` receives their bytes."""
        super().__init__()
        self.values = dict(values)
        self.store = store

    def requires(self, model: ir.Model) -> None:
        """Checks names, types and fixed sizes."""
        inputs = {value.name: value for value in model.graph.inputs}
        for name, array in self.values.items():
            if name not in inputs:
                raise ir.passes.PreconditionError(f"{name!r} is not an input of the graph: {sorted(map(str, inputs))}")
            check_fits(inputs[name], array)

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Adds the initialisers."""
        for value in model.graph.inputs:
            if value.name in self.values:
                value.const_value = self.store.add(ir.tensor(self.values[value.name]), value.name)
                model.graph.register_initializer(value)
        return ir.passes.PassResult(model, bool(self.values))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one that is not both."""
        both = {value.name for value in model.graph.inputs} & set(model.graph.initializers)
        if missing := set(self.values) - both:
            raise ir.passes.PostconditionError(f"without a default, or no input any more: {sorted(missing)}")
