"""Moves constants to the one file of weights that all graphs of an artifact point to."""

import onnx_ir as ir

from propetl.export.weight_store import WeightStore

# Below this a reference costs as much as the bytes.
_SMALLEST_BYTES = 1024


class ShareWeights(ir.passes.InPlacePass):
    """Replaces large initialisers by references into a :class:`WeightStore`.

    Run before binding: what is constant then (backbone and prototype) belongs to every task.

    Requires: nothing.
    Ensures: no initialiser of 1 KiB or more is held by the graph itself.
    """

    def __init__(self, store: WeightStore) -> None:
        """``store`` receives the bytes."""
        super().__init__()
        self.store = store

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Stores each constant once, however many graphs use it."""
        held = [value for value in model.graph.initializers.values() if _is_held(value)]
        for value in held:
            assert value.const_value is not None
            value.const_value = self.store.add(value.const_value, str(value.name))
        return ir.passes.PassResult(model, bool(held))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a large constant that stayed."""
        for value in model.graph.initializers.values():
            if _is_held(value):
                raise ir.passes.PostconditionError(f"{value.name} is not in the shared file")


def _is_held(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and not isinstance(tensor, ir.ExternalTensor) and tensor.nbytes >= _SMALLEST_BYTES
