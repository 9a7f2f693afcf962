"""ONNX Runtime. The only module that imports it."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ArtifactError, BackendError, MissingExtraError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions, Prepared
from propetl.runtime.manifest import GraphInfo, TensorSignature

_DTYPES = {"tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(float)": "float32"}
_ERRORS_ONLY = 3
_WEIGHTS_FOLDER = "session.model_external_initializers_file_folder_path"


@dataclass(frozen=True)
class OrtProvider:
    """One execution provider of ONNX Runtime: its name there, and the extra that brings it."""

    name: str
    extra: str


ORT_PROVIDERS = {
    "cpu": OrtProvider("CPUExecutionProvider", "cpu"),
    "cuda": OrtProvider("CUDAExecutionProvider", "gpu"),
    "tensorrt": OrtProvider("TensorrtExecutionProvider", "gpu"),
}


class OrtEngine:
    """One graph in an ``onnxruntime.InferenceSession``; made by :func:`load`."""

    def __init__(self, session: Any, ort_value: Any, graph: GraphInfo) -> None:
        self._session = session
        self._ort_value = ort_value
        self._path = graph.path
        self._outputs = [item.name for item in graph.outputs]

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the loaded graph really has."""
        return _signatures(self._session.get_inputs())

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Outputs that the loaded graph really has."""
        return _signatures(self._session.get_outputs())

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Tensors as OrtValues, which can be fed without being looked at again."""
        return {name: self._ort_value(np.ascontiguousarray(tensor)) for name, tensor in tensors.items()}

    def run(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> NDArray[np.float32]:
        """Logits float32 ``[batch, labels]``.

        Raises:
            BackendError: ONNX Runtime refuses the inputs, such as ids beyond the vocabulary.
        """
        try:
            values = {**self.prepare(feeds), **prepared}
            logits: NDArray[np.float32] = self._session.run_with_ort_values(self._outputs, values)[0].numpy()
        except Exception as error:  # its exceptions have no common base but Exception
            reason = _first_line(error)
            raise BackendError(f"{self._path}: ONNX Runtime refused the inputs: {reason}") from error
        return logits


def load(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> OrtEngine:
    """Loads ``graph`` of ``artifact``; see :func:`propetl.runtime.engines.load_engine`."""
    provider = ORT_PROVIDERS[options.provider]
    runtime = _onnxruntime(provider)
    _check_available(options.provider, provider, runtime.get_available_providers())
    try:
        session = runtime.InferenceSession(
            artifact.graph_bytes(graph),
            _session_options(runtime, artifact, options),
            providers=[provider.name],
            enable_fallback=0,
        )
    except Exception as error:  # its exceptions have no common base but Exception
        source = artifact.path / graph.path
        raise ArtifactError(f"{source}: ONNX Runtime cannot load it: {_first_line(error)}") from error
    _check_started(options.provider, provider, session.get_providers())
    return OrtEngine(session, runtime.OrtValue.ortvalue_from_numpy, graph)


def _onnxruntime(provider: OrtProvider) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("running an artifact", "onnxruntime", provider.extra) from error
    return onnxruntime


def _session_options(runtime: Any, artifact: Artifact, options: EngineOptions) -> Any:
    chosen = runtime.SessionOptions()
    chosen.log_severity_level = _ERRORS_ONLY
    # The graph comes as bytes, so that "backbone.data" can stand at the root for the graphs of all folders:
    # by path, ONNX Runtime looks beside the graph only, and refuses ".." and links.
    chosen.add_session_config_entry(_WEIGHTS_FOLDER, str(artifact.path.resolve()))
    chosen.intra_op_num_threads = options.threads or 0
    if options.memory == "small":
        chosen.add_session_config_entry("session.disable_prepacking", "1")
        chosen.enable_cpu_mem_arena = False
        chosen.enable_mem_pattern = False
    return chosen


def _check_available(asked: str, provider: OrtProvider, available: Sequence[str]) -> None:
    if provider.name in available:
        return
    here = ", ".join(name for name, item in ORT_PROVIDERS.items() if item.name in available) or "none"
    raise BackendError(
        f"provider {asked!r} needs ONNX Runtime's {provider.name}, but the onnxruntime here serves: {here}; "
        f"pip install 'propetl[{provider.extra}]' in an environment of its own, or choose one of those"
    )


def _check_started(asked: str, provider: OrtProvider, running: Sequence[str]) -> None:
    """ONNX Runtime falls back without a word where a provider cannot start; that is an error here."""
    if provider.name not in running:
        raise BackendError(
            f"provider {asked!r} did not start: {provider.name} is installed, but {', '.join(running)} "
            "would run instead; check the driver and the CUDA and cuDNN libraries"
        )


def _signatures(nodes: Sequence[Any]) -> tuple[TensorSignature, ...]:
    return tuple(_signature(node) for node in nodes)


def _signature(node: Any) -> TensorSignature:
    """As in a manifest; an unnamed size, which ONNX Runtime gives as None, becomes ``?``."""
    shape = tuple("?" if size is None else size for size in node.shape)
    return TensorSignature(node.name, _DTYPES.get(node.type, node.type), shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
