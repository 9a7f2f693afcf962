"""Running and making graphs that ONNX Runtime tuned for the CPU of this device."""

import logging
from pathlib import Path
from typing import Any

from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.ort_providers import ORT_PROVIDERS, slower_optimizers
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.tuned import Tuned, TunedGraph, read_tuned, this_device

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"

_LOG = logging.getLogger(__name__)


def content_and_options(
    runtime: Any, chosen: Any, artifact: Artifact, graph: GraphInfo, options: EngineOptions
) -> bytes:
    """Bytes of ``graph``: as it was tuned for this device, or else the artifact's own.

    Args:
        runtime: the module onnxruntime.
        chosen: its session options; a tuned graph is not optimised a second time, and has its weights elsewhere.
        artifact: whose graph it is.
        graph: which one.
        options: a tuned graph is for the CPU; ``small`` memory wants no packed weights.

    Raises:
        ArtifactError: tuned graphs are there, but damaged.
    """
    wanted = options.provider == "cpu" and options.memory == "fast"
    tuned = tuned_for_this_device(artifact, runtime.__version__) if wanted else None
    # The graph comes as bytes, so that "backbone.data" can stand at the root for the graphs of all folders:
    # by path, ONNX Runtime looks beside the graph only, and refuses ".." and links.
    if tuned is None or graph.path not in tuned.graphs:
        chosen.add_session_config_entry(WEIGHTS_FOLDER, str(artifact.path.resolve()))
        return artifact.graph_bytes(graph)
    found: TunedGraph = tuned.graphs[graph.path]
    chosen.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.add_session_config_entry(WEIGHTS_FOLDER, str((tuned.root / found.weights).resolve()))
    return (tuned.root / found.path).read_bytes()


def tuned_for_this_device(artifact: Artifact, version: str) -> Tuned | None:
    """Tuned graphs of ``artifact`` that ONNX Runtime ``version`` may run here; the log says why others are not.

    Raises:
        ArtifactError: what is there is damaged.
    """
    tuned = read_tuned(artifact.path)
    if tuned is None:
        return None
    reason = tuned.mismatch(artifact.path, this_device(version))
    if reason is not None:
        _LOG.warning("%s: its tuned graphs are not used: %s; run propetl tune again", artifact.path, reason)
        return None
    return tuned


def optimise(
    runtime: Any, artifact: Artifact, graph: GraphInfo, target: Path, weights: str, smallest: int, pack: bool
) -> None:
    """Writes ``graph`` as ONNX Runtime optimises it for this CPU, with its weights in a file beside it.

    Args:
        runtime: the module onnxruntime.
        artifact: whose graph it is.
        graph: which one.
        target: the ONNX file to write.
        weights: name of the file with tensors of ``smallest`` bytes or more.
        smallest: of the tensors that leave the graph.
        pack: keep them packed for this CPU's kernels as well.

    Raises:
        ArtifactError: ONNX Runtime does not accept the graph.
    """
    chosen = runtime.SessionOptions()
    chosen.log_severity_level = 3  # it warns that what it writes is for this CPU
    chosen.optimized_model_filepath = str(target)
    entries = {
        WEIGHTS_FOLDER: str(artifact.path.resolve()),
        "session.optimized_model_external_initializers_file_name": weights,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(smallest),
        "session.save_external_prepacked_constant_initializers": "1" if pack else "0",
    }
    for name, value in entries.items():
        chosen.add_session_config_entry(name, value)
    try:
        cpu = ORT_PROVIDERS["cpu"]
        skipped = slower_optimizers(cpu)
        content = artifact.graph_bytes(graph)
        runtime.InferenceSession(content, chosen, providers=[cpu.name], disabled_optimizers=skipped)
    except Exception as error:  # its exceptions have no common base but Exception
        reason = str(error).strip().split("\n")[0]
        raise ArtifactError(f"{artifact.path / graph.path}: cannot be optimised: {reason}") from error
