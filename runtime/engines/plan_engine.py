"""A plan on a device: lanes for calls at once, and what does not depend on the call."""

import queue
import threading
import weakref
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines import Prepared
from propetl.runtime.engines.cuda_runtime import Cuda
from propetl.runtime.engines.held import HeldCall
from propetl.runtime.engines.plan_lane import Binding, DeviceTensor, Lane
from propetl.runtime.engines.plan_library import KernelCache, LoadedPlan
from propetl.runtime.engines.plan_shapes import filled_feeds, fit_profile, sizes_of
from propetl.runtime.manifest import GraphInfo, TensorSignature
from propetl.runtime.signatures import BATCH

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}
_MOST_LANES = 4
"""Calls that run on the device at once; each has activations of its own, and further calls wait."""


class PlanEngine:
    """One plan on one device."""

    def __init__(
        self, plan: LoadedPlan, cuda: Cuda, graph: GraphInfo, pad_token_id: int, kernels: KernelCache | None
    ) -> None:
        self.plan = plan
        self._cuda = cuda
        self._graph = graph
        self._pad_token_id = pad_token_id
        self._kernels = kernels
        self._most_rows = max(profile.sizes[BATCH][2] for profile in plan.info.profiles)
        self._signatures = _signatures(plan)
        self._dtypes = {item.name: np.dtype(item.dtype) for item, _ in self._signatures}
        self._free: queue.LifoQueue[Lane] = queue.LifoQueue()
        self._lanes: list[Lane] = []
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
        rows, tokens = feeds["input_ids"].shape
        return logits[:rows, :tokens] if logits.ndim == 3 else logits[:rows]

    def _fitted(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> tuple[int, dict[str, NDArray[Any]]]:
        """The profile for a batch, and the batch as large as it has to be for it."""
        shapes = {name: tensor.shape for name, tensor in (*feeds.items(), *prepared.items())}
        info = self.plan.info
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
                if len(self._lanes) < _MOST_LANES:
                    self._lanes.append(self._new_lane())
                    return self._lanes[-1]
        return self._free.get()

    def forget_graphs(self) -> None:
        """Lets go of all CUDA graphs: they may hold weights that are about to change. Nothing may be running."""
        for lane in self._lanes:
            lane.forget_graphs()

    def _new_lane(self) -> Lane:
        engine = self.plan.engine
        config = () if self._kernels is None else (self._kernels.config,)
        context = engine.create_execution_context(*config)
        return Lane(self.plan, self._cuda, context, self._dtypes, capture=not self.plan.kind.captures_itself)

    @contextmanager
    def held(self, feeds: Mapping[str, NDArray[Any]], prepared: Prepared) -> Iterator[HeldCall]:
        """One batch in a lane, to be run again and again; its inputs are on the device already."""
        self._cuda.use()
        profile, arrays = self._fitted(feeds, prepared)
        with self.lane() as lane:
            binding = lane.stage(profile, arrays, prepared)
            call = PlanCall(lane, binding, tuple(arrays), graphs=not self.plan.kind.captures_itself)
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
