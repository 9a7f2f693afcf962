"""Brings the finished float32 graphs of an artifact to floats of half the bits.

Masks are folded, and LoRA is merged, in float32. Float16 has a small range: how large values get is measured first, on
real rows, and what would leave the range stays float32.
"""

import tempfile
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import onnx_ir as ir

from propetl.errors import ConfigurationError
from propetl.export.calibration import measured_batches, rows_in
from propetl.export.float_range import MARGIN, too_wide
from propetl.export.graphs import write_checked
from propetl.export.options import FP16
from propetl.export.passes import run_passes
from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.lower_floats import LOWERED_TYPES, LowerFloats
from propetl.export.passes.quantize_dynamically import is_product
from propetl.export.passes.share_weights import ShareWeights
from propetl.export.rows_through_graphs import RowsThroughGraphs
from propetl.export.tensorrt_engines.lowering import load_graph
from propetl.export.weight_store import WeightStore
from propetl.runtime.artifact import Artifact
from propetl.runtime.losses import Float16Range
from propetl.runtime.manifest import BACKBONE_FILE, Manifest

Report = Callable[[str], None]
Peaks = Mapping[str, float]

_MOST_REASONS = 8


@dataclass(frozen=True)
class Halved:
    """The outcome for an artifact's graphs.

    Attributes:
        graphs: by their path.
        float16: what was measured for them; None at bf16, which has the range of float32.
    """

    graphs: Mapping[str, ir.Model]
    float16: Float16Range | None


def halve_graphs(staging: Path, manifest: Manifest, precision: str, data: str | None, report: Report) -> Halved:
    """Replaces the graphs of a float32 artifact and its shared weights, with inputs and outputs as they were.

    Args:
        staging: folder of the artifact, which is not complete yet: graphs, weights, packs, tokenizer, golden rows.
        manifest: of the artifact.
        precision: a key of :data:`LOWERED_TYPES`.
        data: where the tasks' rows are, on which float16 is measured besides the golden rows; or None.
        report: called with a line about each step; lines of detail start with two blanks.

    Raises:
        ConfigurationError: nothing is left that could be computed in float16.
        DataError: a row cannot be used.
    """
    with tempfile.TemporaryDirectory(dir=staging, prefix=".fp32.") as scratch:
        floats = Path(scratch)
        (staging / BACKBONE_FILE).replace(floats / BACKBONE_FILE)
        artifact = Artifact(staging, manifest)
        peaks, rows = _measured(artifact, floats, data, report) if precision == FP16 else ({}, 0)
        paths = sorted(set().union(*(info.paths() for info in manifest.forms.values())))
        float16 = _float16_range(staging, floats, {path: peaks[path] for path in paths}, rows, report) if rows else None
        with WeightStore(staging / BACKBONE_FILE) as store:
            graphs = {path: _halved(path, staging, floats, precision, peaks.get(path), store, report) for path in paths}
    return Halved(graphs, float16)


def _measured(
    artifact: Artifact, weights: Path, data: str | None, report: Report
) -> tuple[Mapping[str, Peaks], int]:
    """Peaks by path of the graph, and the number of rows that made them."""
    report(f"measuring how large activations get: golden rows{f', {data}' if data else ''}")
    batches = measured_batches(artifact, artifact.manifest.tasks, data)
    peaks = RowsThroughGraphs(artifact, weights, batches).peaks
    return peaks, sum(map(rows_in, batches.values()))


def _float16_range(
    root: Path, weights: Path, peaks: Mapping[str, Peaks], rows: int, report: Report
) -> Float16Range:
    """Nodes that stay float32, reported graph by graph."""
    products = exact = 0
    for path, known in peaks.items():
        model = load_graph(root / path, weights)
        wide = too_wide(model.graph, known)
        mine = [node for node in model.graph if is_product(node)]
        products, exact = products + len(mine), exact + sum(node in wide for node in mine)
        for node, reason in [*wide.items()][:_MOST_REASONS]:
            report(f"  {path}: {node.op_type} {node.name} stays float32: {reason}")
        if len(wide) > _MOST_REASONS:
            report(f"  {path}: and {len(wide) - _MOST_REASONS} more operators")
    report(f"float16: {exact} of {products} products stay float32, measured on {rows} rows with a margin of {MARGIN:g}")
    if products and exact == products:
        raise ConfigurationError(
            f"--quantize {FP16}: all {products} products stay float32, as their values leave float16's range; "
            "choose bf16 or fp32"
        )
    largest = max((peak for known in peaks.values() for peak in known.values()), default=0.0)
    return Float16Range(rows, MARGIN, products, exact, min(largest, float(np.finfo(np.float32).max)))


def _halved(
    path: str, root: Path, weights: Path, precision: str, peaks: Peaks | None, store: WeightStore, report: Report
) -> ir.Model:
    """The graph in ``precision``, written in its place; what a task owns stays in it."""
    report(f"lowering to {precision}: {path}")
    own = frozenset(name for name, value in ir.load(root / path).graph.initializers.items() if not _is_shared(value))
    model = load_graph(root / path, weights)
    passes = [LowerFloats(LOWERED_TYPES[precision], peaks), DropStaleShapes(), ShareWeights(store, kept=own)]
    for record in run_passes(model, passes):
        report(f"  {record}")
    write_checked(model, root, root / path)
    return model


def _is_shared(value: ir.Value) -> bool:
    return isinstance(value.const_value, ir.ExternalTensor)
