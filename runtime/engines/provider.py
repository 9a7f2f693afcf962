"""A provider is a record of separate facts. Code asks for the fact that it needs, never for a provider's name."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from propetl.runtime.operators import STANDARD

if TYPE_CHECKING:
    from propetl.runtime.engines import EngineOptions
    from propetl.runtime.manifest import GraphInfo, Manifest

OrtOptions = Callable[["EngineOptions", "GraphInfo", "Manifest", "Path | None"], dict[str, str]]
"""Options of an execution provider, as ONNX Runtime takes them.

Arguments: what the user asked for; the graph that is going to be loaded; the manifest of its artifact; a folder for
engines, for a provider that builds them.
"""


@dataclass(frozen=True, kw_only=True)
class Provider:
    """One thing that runs graphs, or engines that were built from them.

    Attributes:
        module: Python module with the functions ``load(artifact, graph, options) -> Engine`` and
            ``can_stage(artifact, stages, options) -> bool``.
        memory: where tensors can be kept between calls: in the memory of the CPU or of a CUDA device.
        operators: the sets of operators that it runs, keys of ``propetl.runtime.operators.OPERATOR_SETS``.
        without: precisions that it cannot compute in.
        rounds_to_tf32: rounds products of float32 to ten bits, and has no switch that turns it off.
        tuned: runs the graphs that ``propetl tune`` left for the CPU of this machine.
    """

    module: str
    memory: Literal["cpu", "cuda"] = "cuda"
    operators: frozenset[str] = frozenset({STANDARD})
    without: frozenset[str] = frozenset()
    rounds_to_tf32: bool = False
    tuned: bool = False


@dataclass(frozen=True, kw_only=True)
class OrtProvider(Provider):
    """One execution provider of ONNX Runtime.

    Attributes:
        name: its name in ONNX Runtime.
        extra: of this project, that installs it.
        options: gives its options.
        left_to_cpu: operators that ONNX Runtime may move from it to the CPU; None for the CPU itself.
        stages: runs a form in two stages. A provider that builds an engine for every graph does not: two engines for
            one answer do not pay.
        builds: builds engines for ranges of shapes, and keeps them in a folder.
        helpers: keys of providers that may take what it leaves; the CPU is none of them.
        plugin: package of a provider that is registered at run time.
        preloads_cuda: has the libraries of CUDA and cuDNN loaded first: pip puts them where no search path leads.
        libraries: package that loads its shared libraries when it is imported.
        slower_optimizers: optimizers of ONNX Runtime that make graphs slower on it.
        stream_options: further options where a stream is given to it.
    """

    module: str = "propetl.runtime.engines.ort"
    name: str
    extra: str
    options: OrtOptions
    left_to_cpu: frozenset[str] | None
    stages: bool = False
    builds: bool = False
    helpers: tuple[str, ...] = ()
    plugin: str | None = None
    preloads_cuda: bool = False
    libraries: str | None = None
    slower_optimizers: frozenset[str] = frozenset()
    stream_options: Mapping[str, str] | None = None


@dataclass(frozen=True, kw_only=True)
class PlanProvider(Provider):
    """A library that runs engines which were built ahead, and not graphs.

    Attributes:
        target: of its engines; a key of ``propetl.runtime.engines.tensorrt_flavour.FLAVOURS``.
    """

    module: str = "propetl.runtime.engines.plans"
    target: str
