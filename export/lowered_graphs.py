"""Brings the finished float32 graphs of an artifact to another precision: one for which they have to be measured first.

Weights that are quantised without looking at activations are so on the trace (``precisions.py``), once for all graphs.
Ranges of activations are those of one bound graph on its task's rows: so such a precision starts from a whole artifact.
"""

import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path

import onnx_ir as ir

from propetl.export.calibration import calibration_batches, graph_feeds
from propetl.export.graphs import write_checked
from propetl.export.passes import PassRecord, run_passes
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.quantize_dynamically import is_product
from propetl.export.passes.quantize_products import QuantizeProducts
from propetl.export.passes.quantize_prototype import QuantizePrototype
from propetl.export.passes.quantize_tables import QuantizeTables
from propetl.export.passes.share_weights import ShareWeights, is_made_of
from propetl.export.ranges import Range, activation_ranges
from propetl.export.tensorrt_engines.lowering import load_graph
from propetl.export.tensorrt_engines.refit import TASK_WEIGHTS, task_weights_of
from propetl.export.weight_store import WeightStore
from propetl.runtime.artifact import Artifact
from propetl.runtime.batching import Feeds
from propetl.runtime.engine_records import GraphName
from propetl.runtime.manifest import BACKBONE_FILE, MODEL, GraphInfo, Manifest
from propetl.runtime.signatures import FORM_RULES

Ranges = dict[str, Range]
Report = Callable[[str], None]


def quantize_statically(staging: Path, manifest: Manifest, data: str | None, report: Report) -> None:
    """Replaces the graphs of a float32 artifact and its shared weights by quantised ones with measured ranges.

    Args:
        staging: folder of the artifact, which is not complete yet: graphs, weights, packs, tokenizer, golden rows.
        manifest: of the artifact.
        data: where the tasks' training rows are; None for the golden rows.
        report: called with a line about each step; lines of detail start with two blanks.

    Raises:
        ConfigurationError: a task has no rows, or values that are not finite.
        DataError: a row cannot be used.
    """
    with tempfile.TemporaryDirectory(dir=staging, prefix=".fp32.") as scratch:
        floats = Path(scratch)
        (staging / BACKBONE_FILE).replace(floats / BACKBONE_FILE)
        measured = list(_Floats(Artifact(staging, manifest), floats, data, report).measured())  # before one is replaced
        with WeightStore(staging / BACKBONE_FILE) as store:
            for one in measured:
                report(f"quantising {one.path}")
                model, records = _quantised(one, staging, floats, store)
                for record in records:
                    report(f"  {record}")
                write_checked(model, staging, staging / one.path)


@dataclass(frozen=True)
class _Measured:
    """One graph, ready to be quantised.

    Attributes:
        path: inside the artifact.
        ranges: of its activations.
        masks_stay: it applies masks to a prototype that it holds.
    """

    path: str
    ranges: Ranges
    masks_stay: bool


@dataclass(frozen=True)
class _Floats:
    """The artifact in float32, whose shared weights stand in another folder."""

    artifact: Artifact
    weights: Path
    data: str | None
    report: Report

    def measured(self) -> Iterator[_Measured]:
        """Every graph.

        Forms in stages are one function of the same trace, with products of the same names: measured once.
        """
        forms = self.artifact.manifest.forms
        for form in [form for form in forms if not FORM_RULES[form].staged]:
            for task, graph in forms[form].all_graphs().items():
                yield _Measured(graph.path, self._ranges(form, task, graph), masks_stay=False)
        if in_stages := {form: info.graph for form, info in forms.items() if info.stages and info.graph}:
            form, first = next(iter(in_stages.items()))
            ranges = self._ranges(form, None, first)
            paths = set().union(*(info.paths() for info in forms.values() if info.stages))
            yield from (_Measured(path, ranges, masks_stay=True) for path in sorted(paths))

    @cached_property
    def _batches(self) -> dict[str, list[Feeds]]:
        self.report(f"reading rows to calibrate on: {self.data or 'the golden rows'}")
        return calibration_batches(self.artifact, self.artifact.manifest.tasks, self.data)

    def _ranges(self, form: str, task: str | None, graph: GraphInfo) -> Ranges:
        path = self.artifact.path / graph.path
        products = [str(node.name) for node in ir.load(path).graph if is_product(node)]
        feeds = graph_feeds(self.artifact, GraphName(form, task, MODEL), self._batches)
        return activation_ranges(path, self.weights, products, feeds)


def _quantised(
    measured: _Measured, root: Path, weights: Path, store: WeightStore
) -> tuple[ir.Model, tuple[PassRecord, ...]]:
    """The graph in integers, and what the passes did; what its task owns stays in it."""
    path = root / measured.path
    own = frozenset(name for name, value in ir.load(path).graph.initializers.items() if not _is_shared(value))
    model = load_graph(path, weights)
    there = {str(node.name) for node in model.graph}
    passes = [
        QuantizeProducts({name: one for name, one in measured.ranges.items() if name in there}, symmetric=False),
        QuantizeTables(),
        *([QuantizePrototype()] if measured.masks_stay else []),
        DropStaleShapes(),
        ShareWeights(store, kept=own),
    ]
    records = run_passes(model, passes)
    if TASK_WEIGHTS in model.metadata_props:
        shared = [name for name in model.graph.initializers if not is_made_of(own, name)]
        model.metadata_props[TASK_WEIGHTS] = task_weights_of(model.graph, shared)
    return model, records


def _is_shared(value: ir.Value) -> bool:
    return isinstance(value.const_value, ir.ExternalTensor)
