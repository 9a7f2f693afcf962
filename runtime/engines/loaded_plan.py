"""Plans in the memory of a device: read, given their weights, and refitted."""

import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from propetl.files import write_atomically
from propetl.runtime.artifact import Artifact
from propetl.runtime.engine_records import EngineInfo
from propetl.runtime.engines.tensorrt_flavour import Flavour, created, error_log, refused

_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class LoadedPlan:
    """A plan in the memory of the device.

    Attributes:
        library: the module that runs it.
        flavour: which of the two that is.
        info: its record.
        runtime: what deserialised it, which has to live as long.
        engine: an ``ICudaEngine``.
    """

    library: Any
    flavour: Flavour
    info: EngineInfo
    runtime: Any
    engine: Any


def load_plan(artifact: Artifact, library: Any, flavour: Flavour, info: EngineInfo) -> LoadedPlan:
    """Deserialises a plan, and gives it its weights where it has none.

    Raises:
        BackendError: the library refuses the plan or the weights.
    """
    runtime = created(library, library.Runtime, error_log(library))
    # Such a plan brings a runtime of the version that built it, which TensorRT loads only where it is allowed to.
    runtime.engine_host_code_allowed = info.version_compatible
    engine = runtime.deserialize_cuda_engine(artifact.content(info.path))
    if engine is None:
        raise refused(library, f"{artifact.path / info.path}")
    plan = LoadedPlan(library, flavour, info, runtime, engine)
    if info.weights_graph is not None:
        _restore_weights(plan, artifact, info.weights_graph)
    return plan


def _restore_weights(plan: LoadedPlan, artifact: Artifact, graph: str) -> None:
    """Gives a stripped plan all its weights, out of the ONNX graph that it was built from."""
    library, log = plan.library, error_log(plan.library)
    refitter = created(library, library.Refitter, plan.engine, log)
    beside_weights = artifact.path / Path(graph).name  # external data are looked for beside this
    read = library.OnnxParserRefitter(refitter, log).refit_from_bytes(artifact.graph_bytes(graph), str(beside_weights))
    if not read or not refitter.refit_cuda_engine():
        raise refused(library, f"the weights of {graph} for {plan.info.path}")


def refit(plan: LoadedPlan, weights: Mapping[str, NDArray[Any]]) -> None:
    """Replaces the weights called as in ``weights``; all others stay. Nothing may be running meanwhile.

    Raises:
        BackendError: the engine has no weights of a name, or of another size.
    """
    library = plan.library
    refitter = created(library, library.Refitter, plan.engine, error_log(library))
    for name, array in weights.items():
        if not refitter.set_named_weights(name, library.Weights(array)):
            raise refused(library, f"weights {name!r} for {plan.info.path}")
    if not refitter.refit_cuda_engine():
        missing = ", ".join(refitter.get_missing_weights()) or "none"
        raise refused(library, f"refitting {plan.info.path} (weights that are missing: {missing})")


class KernelCache:
    """Kernels that TensorRT for RTX compiled here, in a file: the next start does not compile them again.

    Args:
        plan: of a library that has such a cache.
        path: of the file; it need not be there.
        recurring: whether shapes come again; where each call has another, as a cache grows token by token, nothing
            is captured, and no kernels are compiled for one of them.
    """

    def __init__(self, plan: LoadedPlan, path: Path, recurring: bool) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._saved = b""
        self.config = plan.engine.create_runtime_config()
        self._cache = self.config.create_runtime_cache()
        if path.is_file():
            self._saved = path.read_bytes()
            self._cache.deserialize(self._saved)  # of another driver or GPU: refused, and filled anew
        self.config.set_runtime_cache(self._cache)
        library = plan.library
        if recurring:
            self.config.cuda_graph_strategy = library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE
        else:
            kernels = library.DynamicShapesKernelSpecializationStrategy
            self.config.cuda_graph_strategy = library.CudaGraphStrategy.DISABLED
            self.config.dynamic_shapes_kernel_specialization_strategy = kernels.NONE

    def save(self) -> None:
        """Writes the file if there is anything new; a disk that is full costs the next start time, and no answer."""
        content = bytes(self._cache.serialize())
        with self._lock:
            if content == self._saved:
                return
            self._saved = content
            try:
                write_atomically(self._path, content)
            except OSError as error:
                _LOG.warning("%s: compiled kernels are not kept: %s", self._path, error.strerror or error)
