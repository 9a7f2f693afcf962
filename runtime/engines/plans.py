"""Plans of TensorRT and TensorRT for RTX, run without ONNX Runtime."""

import queue
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import EngineOptions, Prepared
from propetl.runtime.engines.cache import cache_folder
from propetl.runtime.engines.cuda_runtime import Cuda, load_cuda
from propetl.runtime.engines.held import HeldCall
from propetl.runtime.engines.plan_choice import Place, choose_engine
from propetl.runtime.engines.plan_lane import Binding, DeviceTensor, Lane
from propetl.runtime.engines.plan_library import PLAN_LIBRARIES, KernelCache, LoadedPlan, load_library, load_plan
from propetl.runtime.engines.plan_shapes import filled_feeds, fit_profile, sizes_of
from propetl.runtime.manifest import GraphInfo, TensorSignature
from propetl.runtime.signatures import BATCH

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}
STAGING: tuple[str, ...] = ()  # a plan is of one graph

_MOST_LANES = 4
"""Calls that run on the device at once; each has activations of its own, and further calls wait."""


class PlanEngine:
    """One plan on one device; made by :func:`load`."""

    def __init__(
        self, plan: LoadedPlan, cuda: Cuda, graph: GraphInfo, pad_token_id: int, kernels: KernelCache | None
    ) -> None:
        self._plan = plan
        self._cuda = cuda
        self._graph = graph
        self._pad_token_id = pad_token_id
        self._kernels = kernels
        self._most_rows = max(profile.sizes[BATCH][2] for profile in plan.info.profiles)
        self._signatures = _signatures(plan)
        self._dtypes = {item.name: np.dtype(item.dtype) for item, _ in self._signatures}
        self._free: queue.LifoQueue[Lane] = queue.LifoQueue()
        self._made = 0
        self._lock = threading.Lock()
        if kernels is not None:
            weakref.finalize(self, kernels.save)

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the plan really has."""
        return tuple(item for item, is_input in self._signatures if is_input)

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Outputs that the plan really has."""
        return tuple(item for item, is_input in self._signatures if not is_input)

    def prepare(self, tensors: Mapping[str, NDArray[Any]]) -> Prepared:
        """Tensors on the device, where they stay: feeding them copies nothing."""
        self._cuda.use()
        stream = self._cuda.stream()
        prepared = {}
        for name, tensor in tensors.items():
            tensor = np.ascontiguousarray(tensor, dtype=self._dtypes[name])
            staging, buffer = self._cuda.pinned(tensor.nbytes), self._cuda.buffer(tensor.nbytes)
            staging.write(tensor)
            stream.to_device(buffer, staging, tensor.nbytes)
            stream.synchronize()
            prepared[name] = DeviceTensor(tensor.shape, buffer)
        return prepared

    def run(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> NDArray[np.float32]:
        """Logits float32 ``[batch, labels]``; more rows than the largest profile takes are run one part after another.

        Raises:
            BackendError: rows longer than every profile, or a fault of the device.
        """
        self._cuda.use()
        rows, most = len(feeds["input_ids"]), self._most_rows
        parts = [{name: array[start : start + most] for name, array in feeds.items()} for start in range(0, rows, most)]
        return np.concatenate([self._run_part(part, prepared) for part in parts])

    def _run_part(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> NDArray[np.float32]:
        profile, arrays = self._fitted(feeds, prepared)
        with self.lane() as lane:
            logits = lane.run(profile, arrays, prepared)
        return logits[: len(feeds["input_ids"])]

    def _fitted(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> tuple[int, dict[str, NDArray[Any]]]:
        """The profile for a batch, and the batch as large as it has to be for it."""
        shapes = {name: tensor.shape for name, tensor in (*feeds.items(), *prepared.items())}
        info = self._plan.info
        fit = fit_profile(info.profiles, sizes_of(self._graph.inputs, shapes), info.path)
        return fit.profile, filled_feeds(feeds, fit.sizes, self._pad_token_id)

    @contextmanager
    def lane(self) -> Iterator[Lane]:
        """A lane that nobody else has; waits for one if all are out."""
        lane = self._taken()
        try:
            yield lane
        finally:
            self._free.put(lane)

    def _taken(self) -> Lane:
        try:
            return self._free.get_nowait()
        except queue.Empty:
            with self._lock:
                if self._made < _MOST_LANES:
                    lane = self._new_lane()
                    self._made += 1
                    return lane
        return self._free.get()

    def _new_lane(self) -> Lane:
        engine = self._plan.engine
        config = () if self._kernels is None else (self._kernels.config,)
        context = engine.create_execution_context(*config)
        return Lane(self._plan, self._cuda, context, self._dtypes, capture=not self._plan.kind.captures_itself)

    @contextmanager
    def held(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> Iterator[HeldCall]:
        """One batch in a lane, to be run again and again; its inputs are on the device already."""
        self._cuda.use()
        profile, arrays = self._fitted(feeds, prepared)
        with self.lane() as lane:
            binding = lane.stage(profile, arrays, prepared)
            call = PlanCall(lane, binding, tuple(arrays), graphs=not self._plan.kind.captures_itself)
            call.enqueue(transfers=True, graph=False)
            call.wait()
            yield call


class PlanCall(HeldCall):
    """A batch that stays in its lane; made by :meth:`PlanEngine.held`."""

    def __init__(self, lane: Lane, binding: Binding, staged: tuple[str, ...], graphs: bool) -> None:
        super().__init__(lane.stream, graphs)
        self._lane = lane
        self._binding = binding
        self._staged = staged

    def enqueue(self, transfers: bool, graph: bool) -> None:
        """Hands the batch to the device and returns."""
        self._lane.hand_over(self._binding, self._staged, transfers, graph)

    def logits(self) -> NDArray[np.float32]:
        """What the last batch with transfers gave."""
        return self._lane.logits()


def load(artifact: Artifact, graph: GraphInfo, options: EngineOptions) -> PlanEngine:
    """Loads the engine of ``graph``; see :func:`propetl.runtime.engines.load_engine`."""
    kind = PLAN_LIBRARIES[options.provider]
    library = load_library(kind)
    cuda = load_cuda(options.device, kind.extra)
    form, task = _graph_of(artifact, graph)
    place = Place(kind.target, library.__version__, cuda.compute_capability())
    info = choose_engine(artifact.manifest.engines, form, task, options.precision, place)
    plan = load_plan(artifact, library, kind, info, task)
    kernels = KernelCache(plan, cache_folder(artifact, graph, options) / "kernels") if kind.captures_itself else None
    return PlanEngine(plan, cuda, graph, artifact.manifest.pad_token_id, kernels)


def _graph_of(artifact: Artifact, graph: GraphInfo) -> tuple[str, str | None]:
    """Form and task that a graph belongs to."""
    for form, info in artifact.manifest.forms.items():
        for task, candidate in info.all_graphs().items():
            if candidate.path == graph.path:
                return form, task
    raise ArtifactError(f"{artifact.path}: {graph.path} belongs to no form; export the bundle again")


def _signatures(plan: LoadedPlan) -> tuple[tuple[TensorSignature, bool], ...]:
    """Every input and output, and whether it is an input; a free size becomes ``?``."""
    engine, found = plan.engine, []
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = engine.get_tensor_dtype(name).name
        shape = tuple("?" if size < 0 else int(size) for size in engine.get_tensor_shape(name))
        is_input = engine.get_tensor_mode(name) == plan.library.TensorIOMode.INPUT
        found.append((TensorSignature(name, _DTYPES.get(kind, kind.lower()), shape), is_input))
    return tuple(found)
