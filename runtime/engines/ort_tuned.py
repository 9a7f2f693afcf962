"""Running and making graphs that ONNX Runtime tuned for the CPU of this device."""

import errno
import os
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propetl.errors import ArtifactError
from propetl.runtime.artifact import BACKBONE_FILE, Artifact
from propetl.runtime.engines import EngineOptions
from propetl.runtime.engines.ort_options import UNSATURATED
from propetl.runtime.engines.providers import PROVIDERS, ort_provider
from propetl.runtime.manifest import GraphInfo

if TYPE_CHECKING:
    from propetl.runtime.tuned import Tuned

WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"
"""ONNX Runtime takes paths as bytes too, which on Linux are what a path is: not every one is UTF-8."""


@dataclass(frozen=True)
class Loading:
    """The graph that ONNX Runtime loads.

    Attributes:
        content: the graph.
        tuned: whether it was tuned for this device, or else is the artifact's own.
        mapping: a block in which its weights are mapped: they have to be those that were hashed.
    """

    content: bytes
    tuned: bool
    mapping: AbstractContextManager[None]


def loading(runtime: Any, chosen: Any, artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> Loading:
    """The tuned graph where one is there for this device, or else the artifact's own.

    Args:
        runtime: the module onnxruntime.
        chosen: its session options; a tuned graph is not optimised a second time, and has its weights elsewhere.
        artifact: whose graph it is.
        graph: which one.
        options: a tuned graph is for the CPU; ``small`` memory wants no packed weights.

    Raises:
        ArtifactError: tuned graphs are there, but damaged.
    """
    wanted = PROVIDERS[options.provider].tuned and options.memory == "fast"
    tuned = _tuned(artifact, runtime.__version__) if wanted else None
    # The graph comes as bytes, so that "backbone.data" can stand at the root for the graphs of all folders:
    # by path, ONNX Runtime looks beside the graph only, and refuses ".." and links.
    if tuned is None or graph.path not in tuned.graphs:
        chosen.add_session_config_entry(WEIGHTS_FOLDER, os.fsencode(artifact.path))
        record = artifact.manifest.files[BACKBONE_FILE]
        mapping = artifact.held.mapping(artifact.path, BACKBONE_FILE, record) if artifact.hashing else nullcontext()
        return Loading(artifact.graph_bytes(graph.path), False, mapping)
    weights = tuned.weights_of(graph.path)
    chosen.graph_optimization_level = runtime.GraphOptimizationLevel.ORT_DISABLE_ALL
    chosen.add_session_config_entry(WEIGHTS_FOLDER, os.fsencode((tuned.root / weights).parent))
    mapping = artifact.held.mapping(tuned.root, weights, tuned.files[weights]) if artifact.hashing else nullcontext()
    return Loading(tuned.graph_bytes(graph.path, artifact.hashing), True, mapping)


def _tuned(artifact: Artifact, version: str) -> "Tuned | None":
    if not artifact.may_be_tuned:
        return None
    from propetl.runtime.tuned import tuned_for_this_device  # here: few artifacts are tuned

    return tuned_for_this_device(artifact.path, version)


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
        OSError: the disk is full, of which ONNX Runtime does not speak.
    """
    chosen = runtime.SessionOptions()
    chosen.log_severity_level = 3  # it warns that what it writes is for this CPU
    chosen.optimized_model_filepath = os.fsencode(target)
    entries = {
        WEIGHTS_FOLDER: os.fsencode(artifact.path),
        UNSATURATED[0]: UNSATURATED[1],
        "session.optimized_model_external_initializers_file_name": weights,
        "session.optimized_model_external_initializers_min_size_in_bytes": str(smallest),
        "session.save_external_prepacked_constant_initializers": "1" if pack else "0",
    }
    for name, value in entries.items():
        chosen.add_session_config_entry(name, value)
    cpu = ort_provider("cpu")
    content = artifact.graph_bytes(graph.path)
    try:
        runtime.InferenceSession(content, chosen, providers=[cpu.name], disabled_optimizers=cpu.slower_optimizers)
    except Exception as error:  # its exceptions have no common base but Exception
        _refuse_full_disk(target, len(content))
        reason = str(error).strip().split("\n")[0]
        raise ArtifactError(f"{artifact.path / graph.path}: cannot be optimised: {reason}") from error


def _refuse_full_disk(target: Path, size: int) -> None:
    """Raises the system's error where less than ``size`` bytes are left for ``target``."""
    disk = os.statvfs(target.parent)
    if disk.f_bavail * disk.f_frsize < size:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(target))
