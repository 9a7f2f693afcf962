"""TensorRT and TensorRT for RTX as a device needs them: what runs plans, and how the two differ there.

what                    tensorrt                                tensorrt_rtx
CUDA graphs             captured here, for shapes that recur    captured by the library, for every shape
kernels                 in the plan                             compiled when a shape first runs; kept in a file
"""

import threading
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from importlib import import_module
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from propetl.errors import BackendError, MissingExtraError
from propetl.files import write_atomically
from propetl.runtime.artifact import Artifact
from propetl.runtime.engine_records import EngineInfo

_OLDEST_TENSORRT = 10


@dataclass(frozen=True)
class PlanLibrary:
    """One of the two libraries.

    Attributes:
        target: of the engines that it runs.
        module: Python module.
        extra: that brings it.
        captures_itself: whether it has CUDA graphs and a file of compiled kernels of its own.
    """

    target: str
    module: str
    extra: str
    captures_itself: bool


PLAN_LIBRARIES = {
    "tensorrt-plan": PlanLibrary("tensorrt", "tensorrt", "tensorrt", False),
    "tensorrt-rtx-plan": PlanLibrary("tensorrt-rtx", "tensorrt_rtx", "rtx", True),
}


def load_library(kind: PlanLibrary) -> Any:
    """The Python module of ``kind``.

    Raises:
        MissingExtraError: it is not installed.
        BackendError: it is older than TensorRT 10.
    """
    try:
        library = import_module(kind.module)
    except ImportError as error:
        raise MissingExtraError(f"running engines of target {kind.target}", kind.module, kind.extra) from error
    if not kind.captures_itself and int(library.__version__.split(".")[0]) < _OLDEST_TENSORRT:
        raise BackendError(f"engines of target tensorrt need TensorRT 10 or later; found {library.__version__}")
    return library


@cache
def error_log(library: Any) -> Any:
    """The one logger of ``library`` in this process, for building and running: it ignores all after the first it got.

    ``errors`` holds what went wrong since it was last cleared.
    """

    class ErrorLog(library.ILogger):  # type: ignore[misc]  # a class of a module known at run time
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity in (library.ILogger.Severity.ERROR, library.ILogger.Severity.INTERNAL_ERROR):
                self.errors.append(message)

    return ErrorLog()


def refused(library: Any, what: str) -> BackendError:
    """The error for something that ``library`` does not do, with what it said."""
    log = error_log(library)
    reason = " ".join(log.errors[-1].split()) if log.errors else "it gives no reason"
    log.errors.clear()
    return BackendError(f"{what}: {library.__name__} {library.__version__} refuses it: {reason}")


@dataclass(frozen=True)
class LoadedPlan:
    """A plan in the memory of the device.

    Attributes:
        library: the module that runs it.
        kind: which of the two that is.
        info: its record.
        runtime: what deserialised it, which has to live as long.
        engine: an ``ICudaEngine``.
    """

    library: Any
    kind: PlanLibrary
    info: EngineInfo
    runtime: Any
    engine: Any


def load_plan(artifact: Artifact, library: Any, kind: PlanLibrary, info: EngineInfo) -> LoadedPlan:
    """Deserialises a plan, and gives it its weights where it has none.

    Raises:
        BackendError: the library refuses the plan or the weights.
    """
    runtime = library.Runtime(error_log(library))
    engine = runtime.deserialize_cuda_engine(artifact.content(info.path))
    if engine is None:
        raise refused(library, f"{artifact.path / info.path}")
    plan = LoadedPlan(library, kind, info, runtime, engine)
    if info.weights_graph is not None:
        _restore_weights(plan, artifact, info.weights_graph)
    return plan


def _restore_weights(plan: LoadedPlan, artifact: Artifact, graph: str) -> None:
    """Gives a stripped plan all its weights, out of the ONNX graph that it was built from."""
    library, log = plan.library, error_log(plan.library)
    refitter = library.Refitter(plan.engine, log)
    beside_weights = artifact.path / Path(graph).name  # external data are looked for beside this
    read = library.OnnxParserRefitter(refitter, log).refit_from_bytes(artifact.content(graph), str(beside_weights))
    if not read or not refitter.refit_cuda_engine():
        raise refused(library, f"the weights of {graph} for {plan.info.path}")


def refit(plan: LoadedPlan, weights: Mapping[str, NDArray[Any]]) -> None:
    """Replaces the weights called as in ``weights``; all others stay. Nothing may be running meanwhile.

    Raises:
        BackendError: the engine has no weights of a name, or of another size.
    """
    library = plan.library
    refitter = library.Refitter(plan.engine, error_log(library))
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
    """

    def __init__(self, plan: LoadedPlan, path: Path) -> None:
        self._path = path
        self._lock = threading.Lock()
        self._saved = b""
        self.config = plan.engine.create_runtime_config()
        self._cache = self.config.create_runtime_cache()
        if path.is_file():
            self._saved = path.read_bytes()
            self._cache.deserialize(self._saved)  # of another driver or GPU: refused, and filled anew
        self.config.set_runtime_cache(self._cache)
        self.config.cuda_graph_strategy = plan.library.CudaGraphStrategy.WHOLE_GRAPH_CAPTURE

    def save(self) -> None:
        """Writes the file if there is anything new."""
        content = bytes(self._cache.serialize())
        with self._lock:
            if content != self._saved:
                write_atomically(self._path, content)
                self._saved = content
