"""Moves constants to the one file of weights that all graphs of an artifact point to."""

from collections.abc import Iterator

import onnx_ir as ir

from propetl.export.weight_store import WeightStore

# Below this a reference costs as much as the bytes.
_SMALLEST_BYTES = 1024


class ShareWeights(ir.passes.InPlacePass):
    """Replaces large initialisers by references into a :class:`WeightStore`.

    Run before binding: what is constant then (backbone and prototype) belongs to every task.

    Requires: nothing.
    Ensures: no initialiser of 1 KiB or more is held by the graph itself, but for those that binding ends, and those
        that are to stay.
    """

    def __init__(
        self, store: WeightStore, ended_by: frozenset[str] = frozenset(), kept: frozenset[str] = frozenset()
    ) -> None:
        """``store`` receives the bytes, except of constants that are folded away once ``ended_by`` are bound.

        Where the prototype and the matrices that LoRA is merged into only ever meet masks that become constants,
        no finished graph reads them, and a copy in the store would be dead weight. Of a graph that is bound already,
        the constants ``kept``, and what passes made of them and called after them, are its task's and stay.
        """
        super().__init__()
        self.store = store
        self.ended_by = ended_by
        self.kept = kept

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Stores each constant once, however many graphs use it."""
        held = list(self._to_store(model))
        for value in held:
            assert value.const_value is not None
            value.const_value = self.store.add(value.const_value, str(value.name))
        return ir.passes.PassResult(model, bool(held))

    def ensures(self, model: ir.Model) -> None:
        """Looks for a large constant that stayed."""
        for value in self._to_store(model):
            raise ir.passes.PostconditionError(f"{value.name} is not in the shared file")

    def _to_store(self, model: ir.Model) -> Iterator[ir.Value]:
        computed = _computed_from_constants(model, self.ended_by) if self.ended_by else set()
        for value in model.graph.initializers.values():
            if _is_held(value) and not _vanishes(value, computed) and not is_made_of(self.kept, str(value.name)):
                yield value


def is_made_of(names: frozenset[str], name: str) -> bool:
    """Whether ``name`` is among ``names``, or called after one of them, as ``weight.int8`` is after ``weight``."""
    return any(name[:end] in names for end, sign in enumerate(f"{name}.") if sign == ".")


def _computed_from_constants(model: ir.Model, bound: frozenset[str]) -> set[ir.Value]:
    """Values that need no text once the inputs ``bound`` have become constants."""
    known = {value for value in model.graph.inputs if value.name in bound} | set(model.graph.initializers.values())
    for node in model.graph:  # in the order of computation
        inputs = [value for value in node.inputs if value is not None]
        if inputs and all(value in known for value in inputs):
            known.update(node.outputs)
    return known


def _vanishes(value: ir.Value, computed: set[ir.Value]) -> bool:
    """Whether every operator that reads ``value`` gives a result that is constant, too."""
    nodes = [use.node for use in value.uses()]
    return bool(nodes) and all(output in computed for node in nodes for output in node.outputs)


def _is_held(value: ir.Value) -> bool:
    tensor = value.const_value
    return tensor is not None and not isinstance(tensor, ir.ExternalTensor) and tensor.nbytes >= _SMALLEST_BYTES
