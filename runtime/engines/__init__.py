"""Engines run one graph. One file for each; an engine's library is imported only when it is asked for."""

import os
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any, Literal, Protocol, get_args, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines.blocks import Distinct
from propetl.runtime.engines.held_signature import check_signature
from propetl.runtime.engines.providers import PROVIDERS, check_runs, plan_providers, provider_called
from propetl.runtime.manifest import GraphInfo, Stages, TensorSignature
from propetl.runtime.whole_numbers import LARGEST, MOST_THREADS, whole_number

Memory = Literal["fast", "small"]

Prepared = Mapping[str, Any]
"""Inputs that an engine keeps ready to be fed again and again; its own business what they are."""


@dataclass(frozen=True)
class EngineOptions:
    """How engines are to run.

    Attributes:
        provider: a key of :data:`propetl.runtime.engines.providers.PROVIDERS`.
        threads: threads inside one operator; None leaves it to the engine (all cores).
        memory: ``fast`` keeps weights a second time in the order that kernels like and an arena for
            activations; ``small`` does neither: 20 to 25% slower, and further graphs cost almost nothing.
        device: number of the GPU, as CUDA counts; the CPU takes no notice.
        engine_cache: folder for engines that a provider builds when it loads a graph, made absolute; None for the
            user's cache folder, see :mod:`propetl.runtime.engines.cache`.
        batch_size: rows of a batch at most; engines that are built for a range of shapes are built up to it.
        staged: run the two stages of a form where it has them and the engine can, instead of its one graph.
        timed: put the work into one stream that the benchmark times, where the provider lets us; one call at a time.
        precision: of the engine to run, where the artifact has several for a graph; None for the first.
    """

    provider: str = "cpu"
    threads: int | None = None
    memory: Memory = "fast"
    device: int = 0
    engine_cache: Path | None = None
    batch_size: int = 32
    staged: bool = True
    precision: str | None = None
    timed: bool = False

    def __post_init__(self) -> None:
        provider_called(self.provider)
        if self.threads is not None:
            self._set("threads", whole_number("threads", self.threads, 1, MOST_THREADS))
        self._set("device", whole_number("device, the number of a GPU,", self.device, 0, LARGEST))
        self._set("batch_size", whole_number("batch_size", self.batch_size, 1, LARGEST))
        if self.engine_cache is not None:  # engines may be loaded later, when the process is in another folder
            self._set("engine_cache", Path(os.path.abspath(self.engine_cache)))
        if self.memory not in get_args(Memory):
            raise ConfigurationError(f"memory is one of {', '.join(get_args(Memory))}; got {self.memory!r}")
        if self.precision is not None and self.provider not in plan_providers():
            raise ConfigurationError(
                f"precision chooses among engines of {' and '.join(plan_providers())}; provider {self.provider!r} runs "
                "graphs, which have the precision that they were exported with: leave it out"
            )

    def _set(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


class Engine(Protocol):
    """One graph, loaded. Calls may come from many threads at once."""

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the loaded graph really has."""

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Outputs that the loaded graph really has."""

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Brings tensors to where the engine wants them, once for many runs."""

    def run(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> NDArray[np.float32]:
        """Logits for one batch; ``feeds`` and ``prepared`` together are all inputs."""


@runtime_checkable
class StagingEngine(Engine, Protocol):
    """An engine whose outputs can be another one's inputs."""

    def evaluate(self, prepared: Prepared) -> Distinct:
        """All outputs for ``prepared``, kept where the engine wants inputs, under the names of the outputs."""

    def stack(self, rows: Sequence[Distinct]) -> Prepared:
        """Tensors of several calls as one, along the first axis; shorter axes are filled up with zeros.

        Valid until the same thread calls again.
        """


@runtime_checkable
class KeepingEngine(Engine, Protocol):
    """An engine whose outputs stay where it runs and can be fed again, as a cache of keys and values is."""

    def call(self, feeds: Mapping[str, NDArray[Any]], kept: Prepared) -> dict[str, Any]:
        """All outputs by name, kept; ``feeds`` and ``kept`` together are all inputs."""

    def pick(self, kept: Prepared, rows: NDArray[np.int64]) -> Prepared:
        """Rows of kept tensors, by their places on the first axis: in another order, fewer, or some more than once."""

    def array(self, kept: Any) -> NDArray[Any]:
        """A kept tensor as an array, only to be read."""


EngineLoader = Callable[[Artifact, GraphInfo, EngineOptions], Engine]

ENGINE_PACKAGES = (
    "onnxruntime",
    "onnxruntime-gpu",
    "onnxruntime-ep-nv-tensorrt-rtx",
    "tensorrt",
    "tensorrt_rtx",
    "cuda-bindings",
)
"""Distributions that engines are run by; reports name their versions."""

def can_stage(artifact: Artifact, stages: Stages, options: EngineOptions) -> bool:
    """Whether the provider can run ``stages``: its engines are :class:`StagingEngine`, and are there."""
    answer: bool = import_module(PROVIDERS[options.provider].module).can_stage(artifact, stages, options)
    return answer


def load_engine(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> Engine:
    """Loads ``graph`` on the provider that ``options`` name, or fails: there is no falling back.

    Raises:
        MissingExtraError: the engine's library is not installed.
        BackendError: the provider cannot run here.
        ArtifactError: the engine does not accept the graph, or takes or gives something else than the manifest says.
        ConfigurationError: the graphs were made for another engine.
    """
    manifest = artifact.manifest
    check_runs(options.provider, manifest.operators, manifest.precision, str(artifact.path))
    loader: EngineLoader = import_module(PROVIDERS[options.provider].module).load
    try:
        engine = loader(artifact, graph, options)
        check_signature(engine, graph, str(artifact.path))
    except UnicodeDecodeError as error:  # as the library hands out a name
        source = artifact.path / graph.path
        raise ArtifactError(f"{source}: a name in it is not UTF-8 ({error.reason}); export the bundle again") from error
    return engine
