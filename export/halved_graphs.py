"""Brings finished float32 graphs to floats of half the bits: masks are folded, and LoRA is merged, in float32."""

import tempfile
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path

import onnx_ir as ir

from propetl.export.compiler import Compiled
from propetl.export.passes import run_passes
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.lower_floats import LOWERED_TYPES, LowerFloats
from propetl.export.passes.share_weights import ShareWeights
from propetl.export.tensorrt_engines.lowering import hold_weights
from propetl.export.weight_store import WeightStore

Report = Callable[[str], None]


def halved_graphs(
    compiled: Callable[[WeightStore], Iterable[Compiled]], precision: str, store: WeightStore, report: Report
) -> Iterator[Compiled]:
    """Graphs that compute in ``precision``, one after the other, with inputs and outputs as they were.

    Args:
        compiled: compiles to float32, with shared weights in the store that it is given.
        precision: a key of :data:`LOWERED_TYPES`.
        store: receives the shared weights of the graphs, each once; what a task owns stays in its graph.
        report: called with a line about each step; lines of detail start with two blanks.
    """
    with tempfile.TemporaryDirectory(dir=store.path.parent, prefix=".fp32.") as scratch:
        floats = Path(scratch) / store.path.name
        with WeightStore(floats) as float_store:
            for one in compiled(float_store):
                report(f"lowering to {precision}: {one.path}")
                _halve(one.model, floats.parent, precision, store, report)
                yield one


def _halve(model: ir.Model, weights: Path, precision: str, store: WeightStore, report: Report) -> None:
    own = frozenset(name for name, value in model.graph.initializers.items() if not _is_shared(value))
    hold_weights(model, weights)
    passes = [LowerFloats(LOWERED_TYPES[precision]), DropStaleShapes(), ShareWeights(store, kept=own)]
    for record in run_passes(model, passes):
        report(f"  {record}")


def _is_shared(value: ir.Value) -> bool:
    return isinstance(value.const_value, ir.ExternalTensor)
