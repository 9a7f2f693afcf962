"""Makes the graphs in ``tuned/``: ONNX Runtime optimises each once, and its weights are packed once for all."""

import shutil
import tempfile
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

from propetl.files import folder_records, json_bytes, sha256_of_bytes, sha256_of_file
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.engines.ort import onnxruntime_of
from propetl.runtime.engines.ort_tuned import optimise
from propetl.runtime.engines.providers import check_runs
from propetl.runtime.manifest import MANIFEST, TUNED, GraphInfo
from propetl.runtime.tuned import PACKED_FILE, TUNED_MANIFEST, Tuned, TunedGraph, read_tuned, this_device
from propetl.staging import staged_folder

_FLOAT_BYTES = 4
_LINE_BYTES = 64


def tune(path: Path, report: Callable[[str], None] = lambda line: None) -> bool:
    """Leaves ``tuned/`` in the artifact's folder, whole or not at all; False if it was there for this device.

    Folded graphs of many tasks share one file of packed weights, as far as their weights are the same: what a task
    owns stays in its own graph.

    Args:
        path: folder of the artifact.
        report: called with a line about each graph.

    Raises:
        ArtifactError: the artifact is damaged.
        ConfigurationError: the folder cannot be written, or a CPU cannot run the graphs.
    """
    artifact = read_artifact(path)
    check_runs("cpu", artifact.manifest.operators, artifact.manifest.precision, str(path))
    runtime = onnxruntime_of("cpu")
    here = this_device(runtime.__version__)
    there = read_tuned(artifact.path)
    if there is not None and there.mismatch(artifact.path, here) is None:  # and it was hashed with the artifact
        return False
    with staged_folder(path / TUNED, overwrite=True, marker=TUNED_MANIFEST) as staging:
        graphs = {}
        for graph in dict.fromkeys(_graphs(artifact)):
            report(f"tuning {graph.path}")
            graphs[graph.path] = _tuned_graph(runtime, artifact, graph, staging)
        sha256 = sha256_of_bytes((path / MANIFEST).read_bytes())
        tuned = Tuned(path / TUNED, here, sha256, graphs, folder_records(staging))
        (staging / TUNED_MANIFEST).write_bytes(json_bytes(tuned.to_json()))
    return True


def _graphs(artifact: Artifact) -> Iterator[GraphInfo]:
    for form in artifact.manifest.forms.values():
        for part in form.each_part().values():
            yield from part.all_graphs().values()
        if form.stages is not None:
            yield from form.stages.graphs()


def _tuned_graph(runtime: Any, artifact: Artifact, graph: GraphInfo, staging: Path) -> TunedGraph:
    with tempfile.TemporaryDirectory(dir=staging) as scratch:
        made = Path(scratch) / "model.onnx"
        optimise(runtime, artifact, graph, made, PACKED_FILE, _largest_of_task(artifact) + 1, _packs(artifact))
        packed = made.with_name(PACKED_FILE)
        packed.touch()  # a small graph has nothing to pack
        weights = f"weights-{sha256_of_file(packed)[:16]}"
        (staging / weights).mkdir(exist_ok=True)
        shutil.move(packed, staging / weights / PACKED_FILE)
        target = staging / graph.path
        target.parent.mkdir(parents=True, exist_ok=True)
        shutil.move(made, target)
    return TunedGraph(graph.path, weights)


def _packs(artifact: Artifact) -> bool:
    """Whether weights can be kept packed.

    ONNX Runtime (1.31.1) writes packed weights behind each other without a gap and lets its kernels read them where
    they are mapped, but kernels want lines of 64 bytes and crash without. So all tensors before have to be whole
    lines: they are where every matrix has a side that is, and floats.
    """
    manifest = artifact.manifest
    return manifest.precision == "fp32" and manifest.backbone.hidden_size % _LINE_BYTES == 0


def _largest_of_task(artifact: Artifact) -> int:
    """Bytes of the largest tensor that a task owns: it stays in the graph, so that the packed file is shared."""
    manifest = artifact.manifest
    hidden, widest = manifest.backbone.hidden_size, max(task.info.outputs for task in manifest.tasks.values())
    head = hidden * (hidden if manifest.head == "own" else widest)
    return _FLOAT_BYTES * max([head, *(tensor.size for tensor in manifest.layout.tensors)])
