"""One plan for all folded tasks: before a task runs, the plan is given that task's weights."""

import threading
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import check_format
from propetl.bundle.tensors import Arrays, check_finite, tensors_of
from propetl.errors import ArtifactError, BundleError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Prepared
from propetl.runtime.engines.held import HeldCall
from propetl.runtime.engines.loaded_plan import refit
from propetl.runtime.engines.plan_engine import PlanEngine
from propetl.runtime.manifest import GraphInfo, TensorSignature

REFIT_FORMAT, REFIT_VERSION = "propetl-refit", 1

_shared: "weakref.WeakValueDictionary[tuple[Path, str, int], SharedPlan]" = weakref.WeakValueDictionary()
_shared_lock = threading.Lock()


class SharedPlan:
    """A plan whose weights are one task's at a time; nothing runs while they change."""

    def __init__(self, engine: PlanEngine) -> None:
        self.engine = engine
        self._lock = threading.Lock()
        self._task: str | None = None

    @contextmanager
    def of(self, task: str, weights: Arrays) -> Iterator[PlanEngine]:
        """The engine with the weights of ``task``, for one caller."""
        with self._lock:
            if self._task != task:
                self._task = None  # if refitting fails, some weights may be of either
                self.engine.forget_graphs()
                refit(self.engine.plan, weights)
                self._task = task
            yield self.engine


def shared_plan(artifact: Artifact, path: str, device: int, make: Callable[[], PlanEngine]) -> SharedPlan:
    """The plan at ``path`` of ``artifact``, loaded once for all its tasks."""
    key = (artifact.path.resolve(), path, device)
    with _shared_lock:
        found = _shared.get(key)
        if found is None:
            found = _shared[key] = SharedPlan(make())
        return found


def refit_weights(artifact: Artifact, path: str, task: str) -> Arrays:
    """Weights by name out of a refit file.

    Raises:
        ArtifactError: the file is damaged, or of another task.
    """
    source = str(artifact.path / path)
    try:
        weights, described = tensors_of(artifact.content(path), source)
        check_finite(weights, source)
    except BundleError as error:
        raise ArtifactError(str(error)) from error
    check_format(described, REFIT_FORMAT, REFIT_VERSION, source, ArtifactError)
    if described.get("task") != task:
        raise ArtifactError(f"{source}: holds the weights of {described.get('task')!r}, not of {task!r}; export again")
    return weights


class RefitEngine:
    """One task of a shared plan."""

    def __init__(self, shared: SharedPlan, task: str, weights: Arrays, graph: GraphInfo) -> None:
        self._shared = shared
        self._task = task
        self._weights = weights
        self._graph = graph
        self._width = graph.outputs[0].shape[-1]

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the plan really has."""
        return self._shared.engine.inputs()

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Those of the task: the plan's logits are as wide as the widest task's, and are cut."""
        return tuple(
            TensorSignature(item.name, item.dtype, (*item.shape[:-1], self._width))
            for item in self._shared.engine.outputs()
        )

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Tensors on the device."""
        return self._shared.engine.prepare(tensors)

    def run(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> NDArray[np.float32]:
        """Logits float32 ``[batch, labels]``; refits the plan if another task ran last."""
        with self._shared.of(self._task, self._weights) as engine:
            return engine.run(feeds, prepared)[..., : self._width]

    @contextmanager
    def held(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> Iterator[HeldCall]:
        """One batch, to be run again and again; other tasks wait until it is given back."""
        with self._shared.of(self._task, self._weights) as engine, engine.held(feeds, prepared) as call:
            yield call
