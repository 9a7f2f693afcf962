"""From one ONNX graph to one plan."""

import logging
import time
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propetl.errors import BackendError
from propetl.export.tensorrt_engines.build_progress import Progress, progress_monitor
from propetl.export.tensorrt_engines.flavour import check_supported, new_network, set_compute_capabilities
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.output import write_output
from propetl.runtime.engine_records import Profile
from propetl.runtime.engines.tensorrt_flavour import Flavour, created, error_log, load_library
from propetl.runtime.manifest import TensorSignature

_DTYPES = {
    "FLOAT": "float32",
    "HALF": "float16",
    "BF16": "bfloat16",
    "INT32": "int32",
    "INT64": "int64",
    "UINT8": "uint8",
}
_MIB = 1 << 20
_LOG = logging.getLogger(__name__)


@dataclass(frozen=True)
class Graph:
    """One ONNX graph as the builder takes it.

    Attributes:
        name: for messages.
        content: the ONNX file.
        weights_folder: where its external data lie.
        inputs: that it has to take.
        outputs: that it has to give.
        refittable: names of the constants that can be replaced in the plan; empty for none.
    """

    name: str
    content: bytes
    weights_folder: Path
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]
    refittable: tuple[str, ...] = ()


@dataclass(frozen=True)
class Plan:
    """A serialised engine, and the seconds that its build took."""

    content: bytes
    seconds: float


class EngineBuilder:
    """One library, ready to build with one set of options."""

    def __init__(self, flavour: Flavour, options: TensorRTOptions) -> None:
        """Imports the library and checks the options.

        Raises:
            MissingExtraError: the library is not installed.
            ConfigurationError: an option or a GPU that it does not have.
            BackendError: it cannot build here what is asked for.
        """
        self.flavour = flavour
        self.options = options
        self._library = load_library(flavour, f"--target {flavour.target}")
        self.compute_capabilities = check_supported(flavour, self._library, options)
        self._log = error_log(self._library)

    @property
    def version(self) -> str:
        """Of the library."""
        return str(self._library.__version__)

    def check(self, graph: Graph) -> None:
        """Parses ``graph`` and holds its inputs and outputs against those stated, without building anything.

        Raises:
            BackendError: naming the node and the operator that the parser refuses, and its reason.
        """
        self._parse(graph)

    def build(self, graph: Graph, precision: str, profiles: Sequence[Profile], progress: Progress) -> Plan:
        """Builds ``graph``, whose types are those of ``precision`` already.

        Raises:
            BackendError: the parser refuses the graph, or the builder fails; with its own words.
        """
        builder, network = self._parse(graph)
        config = self._config(builder, precision, bool(graph.refittable))
        for profile in profiles:
            config.add_optimization_profile(_optimization_profile(builder, network, profile, graph))
        monitor = progress_monitor(self._library, progress)
        config.progress_monitor = monitor
        start = time.perf_counter()
        plan = builder.build_serialized_network(network, config)
        seconds = time.perf_counter() - start
        if monitor.error is not None:
            raise monitor.error
        if plan is None:
            raise BackendError(f"{graph.name}: {self.flavour.target} cannot build it: {self._reason()}")
        self._keep_timing_cache(config)
        return Plan(bytes(plan), seconds)

    def _parse(self, graph: Graph) -> tuple[Any, Any]:
        self._log.errors.clear()
        builder = created(self._library, self._library.Builder, self._log)
        network = new_network(self._library, builder)
        parser = created(self._library, self._library.OnnxParser, network, self._log)
        if not parser.parse(graph.content, str(graph.weights_folder / "model.onnx")):
            refused = _refusals(parser) or self._reason()
            raise BackendError(f"{graph.name}: {self.flavour.target} {self.version} cannot read it: {refused}")
        self._check_interface(graph, network)
        for name in graph.refittable:
            if not network.mark_weights_refittable(name):
                raise BackendError(f"{graph.name}: {self.flavour.target} knows no weights {name!r}: {self._reason()}")
        return builder, network

    def _check_interface(self, graph: Graph, network: Any) -> None:
        inputs = [network.get_input(index) for index in range(network.num_inputs)]
        outputs = [network.get_output(index) for index in range(network.num_outputs)]
        for kind, stated, tensors in (("input", graph.inputs, inputs), ("output", graph.outputs, outputs)):
            expected = {(item.name, item.dtype, _sizes(item)) for item in stated}
            found = {(tensor.name, _DTYPES.get(tensor.dtype.name), tuple(tensor.shape)) for tensor in tensors}
            if kind == "output":
                found = _filled_in(found, graph.outputs)
            if expected != found:
                difference = ", ".join(map(str, sorted(expected ^ found, key=str)))
                raise BackendError(f"{graph.name}: its {kind}s became others in the network: {difference}")

    def _config(self, builder: Any, precision: str, refittable: bool = False) -> Any:
        library, options = self._library, self.options
        config = builder.create_builder_config()
        set_compute_capabilities(self.flavour, library, config, self.compute_capabilities)
        if precision == "tf32":
            config.set_flag(library.BuilderFlag.TF32)
        else:
            config.clear_flag(library.BuilderFlag.TF32)  # on unless cleared
        if options.workspace_mib is not None:
            config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, options.workspace_mib * _MIB)
        config.builder_optimization_level = options.optimization_level
        if options.hardware_compatible:
            config.hardware_compatibility_level = library.HardwareCompatibilityLevel.AMPERE_PLUS
        if options.version_compatible:
            config.set_flag(library.BuilderFlag.VERSION_COMPATIBLE)
        if refittable:
            config.set_flag(library.BuilderFlag.REFIT_INDIVIDUAL)
        if options.strip_weights:
            config.set_flag(library.BuilderFlag.STRIP_PLAN)
        if options.timing_cache is not None:
            path = options.timing_cache
            cache = config.create_timing_cache(path.read_bytes() if path.is_file() else b"")
            config.set_timing_cache(cache, False)
        return config

    def _keep_timing_cache(self, config: Any) -> None:
        """Without it the next build takes longer; the engine that was built is not given up for that."""
        path = self.options.timing_cache
        if path is None:
            return
        try:
            write_output(path, bytes(config.get_timing_cache().serialize()))
        except OSError as error:
            _LOG.warning("%s: the timing cache is not kept: %s", path, error.strerror or error)

    def _reason(self) -> str:
        """The library's last words, its source paths left out."""
        return self._log.errors[-1] if self._log.errors else "it gives no reason"


def _refusals(parser: Any) -> str:
    """What the parser could not read: node, operator and reason of each error."""
    found = []
    for index in range(parser.num_errors):
        error = parser.get_error(index)
        node, operator = error.node_name(), error.node_operator()
        where = f"node {node!r} ({operator})" if operator else "the graph"
        found.append(f"{where}: {error.desc()}")
    return "; ".join(dict.fromkeys(found))


def _filled_in(found: set[tuple[Any, ...]], stated: Sequence[TensorSignature]) -> set[tuple[Any, ...]]:
    """Outputs whose fixed sizes the parser did not find out, as it does not follow all arithmetic of shapes."""
    known = {item.name: _sizes(item) for item in stated}
    return {(name, dtype, _joined(shape, known.get(name, shape))) for name, dtype, shape in found}


def _joined(shape: tuple[int, ...], stated: tuple[int, ...]) -> tuple[int, ...]:
    if len(shape) != len(stated):
        return shape
    return tuple(wanted if size < 0 else size for size, wanted in zip(shape, stated, strict=True))


def _sizes(item: TensorSignature) -> tuple[int, ...]:
    return tuple(size if isinstance(size, int) else -1 for size in item.shape)


def _optimization_profile(builder: Any, network: Any, profile: Profile, graph: Graph) -> Any:
    made = builder.create_optimization_profile()
    for item in graph.inputs:
        if all(isinstance(size, int) for size in item.shape):
            continue
        shapes = [
            tuple(size if isinstance(size, int) else profile.sizes[size][which] for size in item.shape)
            for which in range(3)
        ]
        made.set_shape(item.name, *shapes)
    return made
