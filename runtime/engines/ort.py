"""ONNX Runtime. The only module that imports it."""

import os
import threading
from collections.abc import Mapping, Sequence
from contextlib import redirect_stdout, suppress
from importlib import import_module
from io import StringIO
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ArtifactError, BackendError, MissingExtraError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions, Prepared
from propetl.runtime.engines.blocks import Distinct, Shapes, Stack
from propetl.runtime.engines.cache import cache_folder
from propetl.runtime.engines.held_tasks import check_tasks
from propetl.runtime.engines.ort_lending import Lender
from propetl.runtime.engines.ort_memory import forget_graph, give_back_scraps, share_activations
from propetl.runtime.engines.ort_options import UNSATURATED, stream_options
from propetl.runtime.engines.ort_tuned import loading
from propetl.runtime.engines.placement import RECORD_PLACEMENT, check_placement, placement_of
from propetl.runtime.engines.provider import OrtProvider
from propetl.runtime.engines.providers import PROVIDERS, ort_provider
from propetl.runtime.manifest import GraphInfo, Stages, TensorSignature

if TYPE_CHECKING:
    from propetl.runtime.engines.cuda_runtime import Stream

_DTYPES = {"tensor(int64)": "int64", "tensor(uint8)": "uint8", "tensor(float)": "float32"}
_ERRORS_ONLY = 3
# What is raised where a provider is at fault and not the graph; the latter has classes of its own.
_PROVIDER_ERRORS = ("RuntimeError", "EPFail", "EngineError")

_plugin_devices: dict[str, list[Any]] = {}
_plugin_lock = threading.Lock()

# By default an idle thread spins for a million turns, 30 to 50 ms: through the whole loading of a graph, and after
# every call. Between the operators of a call it waits for microseconds.
_SPIN_US, _SPIN = "session.intra_op.spin_duration_us", 1000

_FEW_CORES = 2


class OrtEngine:
    """One graph in an ``onnxruntime.InferenceSession``; made by :func:`load`."""

    def __init__(self, session: Any, ort_value: Any, graph: GraphInfo, device: tuple[str, int]) -> None:
        self._session = session
        self._ort_value = ort_value
        self._graph = graph
        self._path = graph.path
        self._outputs = [item.name for item in graph.outputs]
        self._device = device
        self._lender = Lender(session, self.prepare)
        self._stack = Stack(self._arrays, self.prepare)

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the loaded graph really has."""
        return _signatures(self._session.get_inputs())

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Outputs that the loaded graph really has."""
        return _signatures(self._session.get_outputs())

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Tensors as OrtValues in the provider's memory: fed again and again, they are not copied again."""
        return self._values(tensors, self._device)

    def run(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> NDArray[np.float32]:
        """Logits float32 ``[batch, labels]``.

        Raises:
            BackendError: ONNX Runtime refuses the inputs, such as ids beyond the vocabulary.
        """
        logits: NDArray[np.float32] = self._called(feeds, prepared)[self._outputs[0]].numpy()
        return logits

    def call(self, feeds: Mapping[str, NDArray[Any]], kept: Prepared) -> dict[str, Any]:
        """All outputs by name, as OrtValues in the provider's memory.

        Raises:
            BackendError: as for :meth:`run`.
        """
        if self._device[0] == "cpu":
            return self._called(feeds, kept)
        return self._bound({**self._values(feeds, ("cpu", 0)), **kept})

    def _called(self, feeds: Mapping[str, NDArray[Any]], kept: Prepared) -> dict[str, Any]:
        """All outputs by name; ONNX Runtime brings them to the CPU, wherever they were made."""
        try:
            values = {**self._values(feeds, ("cpu", 0)), **kept}
            found = self._session.run_with_ort_values(self._outputs, values)
        except Exception as error:  # its exceptions have no common base but Exception
            raise self._refused(error) from error
        return dict(zip(self._outputs, found, strict=True))

    def _bound(self, values: Prepared) -> dict[str, Any]:
        """All outputs by name, left where the provider made them."""
        try:
            binding = self._session.io_binding()
            for name, value in values.items():
                binding.bind_ortvalue_input(name, value)
            for name in self._outputs:
                binding.bind_output(name, *self._device)
            self._session.run_with_iobinding(binding)
        except Exception as error:  # its exceptions have no common base but Exception
            raise self._refused(error) from error
        return dict(zip(self._outputs, binding.get_outputs(), strict=True))

    def pick(self, kept: Prepared, rows: NDArray[np.int64]) -> Prepared:
        """Rows of OrtValues by their places on the first axis, in the provider's memory again."""
        return self._values({name: self.array(value)[rows] for name, value in kept.items()}, self._device)

    def array(self, kept: Any) -> NDArray[Any]:
        """An OrtValue as an array; it is not copied if it is in the CPU's memory."""
        array: NDArray[Any] = np.from_dlpack(kept) if kept.device_name() == "cpu" else kept.numpy()
        return array

    def _values(self, tensors: Mapping[str, NDArray[Any]], device: tuple[str, int]) -> dict[str, Any]:
        return {name: self._ort_value(np.ascontiguousarray(tensor), *device) for name, tensor in tensors.items()}

    def evaluate(self, prepared: Prepared) -> Distinct:
        """All outputs for ``prepared``, in the provider's memory, by name.

        Raises:
            BackendError: ONNX Runtime refuses the inputs.
        """
        if self._device[0] != "cpu":
            return Distinct(self._bound(prepared))
        try:
            return self._lender.evaluate(prepared, self._shapes_of(prepared))
        except Exception as error:  # its exceptions have no common base but Exception
            raise self._refused(error) from error

    def _shapes_of(self, prepared: Prepared) -> Shapes:
        """Types and shapes of all outputs: named sizes are those that the inputs have."""
        sizes = {
            name: found
            for item in self._graph.inputs
            for name, found in zip(item.shape, prepared[item.name].shape(), strict=True)
        }
        return {
            item.name: (item.dtype, tuple(sizes.get(size, size) for size in item.shape)) for item in self._graph.outputs
        }

    def stack(self, rows: Sequence[Distinct]) -> Prepared:
        """Tensors of ``rows`` one after the other along the first axis; valid until this thread calls again."""
        return self._stack.stacked(rows)

    def _arrays(self, kept: Prepared) -> dict[str, NDArray[Any]]:
        return {name: self.array(value) for name, value in kept.items()}

    def _refused(self, error: Exception) -> BackendError:
        return BackendError(f"{self._path}: ONNX Runtime refused the inputs: {_first_line(error)}")


def load(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> OrtEngine:
    """Loads ``graph`` of ``artifact``; see :func:`propetl.runtime.engines.load_engine`."""
    provider = ort_provider(options.provider)
    runtime = _onnxruntime(provider)
    chosen = _session_options(runtime, provider, options)
    _load_quickly(chosen, artifact)
    stream = _stream(provider, options) if options.timed and provider.memory == "cuda" else None
    asked = _providers(runtime, chosen, provider, artifact, graph, options, stream)
    wanted = loading(runtime, chosen, artifact, graph, options)
    skipped = provider.slower_optimizers
    try:
        with wanted.mapping:
            session = runtime.InferenceSession(
                wanted.content, chosen, providers=asked, enable_fallback=0, disabled_optimizers=skipped
            )
    except ArtifactError:
        raise
    except Exception as error:  # its exceptions have no common base but Exception
        if type(error).__name__ in _PROVIDER_ERRORS:
            raise _not_started(options.provider, provider, _first_line(error)) from error
        source = artifact.path / graph.path
        raise ArtifactError(f"{source}: ONNX Runtime cannot load it: {_first_line(error)}") from error
    forget_graph(session)
    check_tasks(session.get_modelmeta().custom_metadata_map, graph, artifact.manifest, str(artifact.path))
    if wanted.tuned:
        give_back_scraps()
    _check_started(options.provider, provider, session.get_providers())
    if provider.left_to_cpu is not None:
        check_placement(options.provider, provider, placement_of(session), graph.path)
    memory = (provider.memory, options.device if provider.memory == "cuda" else 0)
    if stream is not None:
        from propetl.runtime.engines.ort_held import TimedOrtEngine  # it is an engine of this module's

        return TimedOrtEngine(session, runtime, graph, memory, stream)
    return OrtEngine(session, runtime.OrtValue.ortvalue_from_numpy, graph, memory)


def can_stage(artifact: Artifact, stages: Stages, options: EngineOptions) -> bool:
    """Whether the provider runs forms in two stages; see :func:`propetl.runtime.engines.can_stage`."""
    return ort_provider(options.provider).stages


def onnxruntime_of(provider: str) -> Any:
    """The module that has ``provider``.

    Raises:
        MissingExtraError: it is not installed.
    """
    return _onnxruntime(ort_provider(provider))


def _onnxruntime(provider: OrtProvider) -> Any:
    try:
        import onnxruntime
    except ImportError as error:
        raise MissingExtraError("running an artifact", "onnxruntime", provider.extra) from error
    if provider.preloads_cuda:
        with redirect_stdout(StringIO()):  # it prints what it does not find, and a command may be writing JSON there
            onnxruntime.preload_dlls()  # CUDA and cuDNN as pip installs them, which no search path names
    if provider.libraries is not None:
        with suppress(ImportError, OSError):  # they may be elsewhere; if they are not, the provider says so
            import_module(provider.libraries)
    return onnxruntime


def _providers(
    runtime: Any,
    chosen: Any,
    provider: OrtProvider,
    artifact: Artifact,
    graph: GraphInfo,
    options: EngineOptions,
    stream: "Stream | None",
) -> list[tuple[str, dict[str, str]]]:
    """Providers and their options; a plug-in goes into the session options ``chosen`` instead."""
    plugin = None
    if provider.plugin is None:
        _check_available(options.provider, provider, runtime.get_available_providers())
    else:
        plugin = _plugin_device(runtime, options, provider)
    cache = cache_folder(artifact, graph, options) if provider.builds else None
    named = (provider, *map(ort_provider, provider.helpers))
    asked = [(one.name, one.options(options, graph, artifact.manifest, cache)) for one in named]
    if stream is not None:
        told = [stream_options(one, stream.handle) for one in named]
        asked = [(name, given | more) for (name, given), more in zip(asked, told, strict=True)]
    if plugin is None:
        return asked
    chosen.add_provider_for_devices([plugin], asked[0][1])
    return []  # what is named beside it would take its place


def _stream(provider: OrtProvider, options: EngineOptions) -> "Stream":
    from propetl.runtime.engines.cuda_runtime import load_cuda  # here: only the benchmark asks for a stream

    return load_cuda(options.device, provider.extra).stream()


def _session_options(runtime: Any, provider: OrtProvider, options: EngineOptions) -> Any:
    chosen = runtime.SessionOptions()
    chosen.log_severity_level = _ERRORS_ONLY
    chosen.add_session_config_entry("session.load_model_format", "ONNX")  # what was looked through for weights
    chosen.add_session_config_entry(*UNSATURATED)
    chosen.intra_op_num_threads = options.threads or 0
    chosen.add_session_config_entry(_SPIN_US, str(_SPIN))
    if options.memory == "small":
        chosen.add_session_config_entry("session.disable_prepacking", "1")
        chosen.enable_cpu_mem_arena = False
        chosen.enable_mem_pattern = False
    elif provider.memory == "cpu":
        share_activations(runtime, chosen)
    if provider.left_to_cpu is not None:
        chosen.add_session_config_entry(RECORD_PLACEMENT, "1")
    return chosen


def _load_quickly(chosen: Any, artifact: Artifact) -> None:
    """Has threads share the packing of weights, unless they would take turns with the hashing of files.

    Half of loading MiniLM is packing, and most of that the system's clearing of fresh memory.
    """
    if not artifact.hashing or (os.cpu_count() or 1) > _FEW_CORES:
        chosen.add_session_config_entry("session.prepack.enable_parallel", "1")


def _check_available(asked: str, provider: OrtProvider, available: Sequence[str]) -> None:
    if provider.name in available:
        return
    ours = {name: one.name for name, one in PROVIDERS.items() if isinstance(one, OrtProvider)}
    here = ", ".join(name for name, theirs in ours.items() if theirs in available) or "none"
    from propetl.installation import requirement_of  # here, as all that is for errors alone

    raise BackendError(
        f"provider {asked!r} needs ONNX Runtime's {provider.name}, but the onnxruntime here serves: {here}; "
        f"pip install {requirement_of(provider.extra)} in an environment of its own, or choose one of those"
    )


def _plugin_device(runtime: Any, options: EngineOptions, provider: OrtProvider) -> Any:
    """The device of a provider that is a plug-in: its library is registered once in a process."""
    with _plugin_lock:
        if provider.name not in _plugin_devices:
            _plugin_devices[provider.name] = _registered(runtime, options.provider, provider)
        devices = _plugin_devices[provider.name]
    if options.device >= len(devices):
        raise BackendError(
            f"provider {options.provider!r} has {len(devices)} devices here, and --device {options.device} counts "
            "from 0; choose another device, or look at nvidia-smi"
        )
    return devices[options.device]


def _registered(runtime: Any, asked: str, provider: OrtProvider) -> list[Any]:
    """Devices that registering the plug-in brings."""
    assert provider.plugin is not None
    try:
        plugin = import_module(provider.plugin)
    except ImportError as error:
        raise MissingExtraError(f"provider {asked!r}", provider.plugin, provider.extra) from error
    try:
        runtime.register_execution_provider_library(provider.name, plugin.get_library_path())
        return [device for device in runtime.get_ep_devices() if device.ep_name == plugin.get_ep_name()]
    except Exception as error:  # its exceptions have no common base but Exception
        raise _not_started(asked, provider, _first_line(error)) from error


def _check_started(asked: str, provider: OrtProvider, running: Sequence[str]) -> None:
    """ONNX Runtime falls back without a word where a provider cannot start; that is an error here."""
    if provider.name not in running:
        raise _not_started(asked, provider, f"it is installed, but {', '.join(running)} would run instead")


def _not_started(asked: str, provider: OrtProvider, reason: str) -> BackendError:
    return BackendError(
        f"provider {asked!r} did not start: {provider.name}: {reason}; "
        "check the driver (nvidia-smi) and the libraries of CUDA that it names"
    )


def _signatures(nodes: Sequence[Any]) -> tuple[TensorSignature, ...]:
    return tuple(_signature(node) for node in nodes)


def _signature(node: Any) -> TensorSignature:
    """As in a manifest; an unnamed size, which ONNX Runtime gives as None, becomes ``?``."""
    shape = tuple("?" if size is None else size for size in node.shape)
    return TensorSignature(node.name, _DTYPES.get(node.type, node.type), shape)


def _first_line(error: Exception) -> str:
    return str(error).strip().split("\n")[0]
