"""A plan on a device: lanes for calls at once, and what does not depend on the call."""

import queue
import threading
import weakref
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines import Prepared
from propetl.runtime.engines.blocks import Distinct
from propetl.runtime.engines.cuda_runtime import Cuda
from propetl.runtime.engines.device_memory import DeviceMemory, DeviceTensor, DeviceTensors
from propetl.runtime.engines.held import HeldCall
from propetl.runtime.engines.loaded_plan import KernelCache, LoadedPlan
from propetl.runtime.engines.plan_lane import Binding, Lane
from propetl.runtime.engines.plan_shapes import filled_feeds, fit_profile, sizes_of
from propetl.runtime.manifest import Dimension, GraphInfo, TensorSignature
from propetl.runtime.signatures import BATCH, ROWS

_DTYPES = {"FLOAT": "float32", "HALF": "float16", "INT32": "int32", "INT64": "int64", "UINT8": "uint8", "BOOL": "bool"}
_MOST_LANES = 4
"""Calls that run on the device at once; each has activations of its own, and further calls wait."""

_Arrays = Mapping[str, NDArray[Any]]


class PlanEngine:
    """One plan on one device."""

    def __init__(
        self, plan: LoadedPlan, cuda: Cuda, graph: GraphInfo, pad_token_id: int, kernels: KernelCache | None
    ) -> None:
        self.plan = plan
        self._cuda = cuda
        self._graph = graph
        self._leading = {item.name: item.shape[0] if item.shape else None for item in (*graph.inputs, *graph.outputs)}
        self._pad_token_id = pad_token_id
        self._kernels = kernels
        self._memory = DeviceMemory(cuda)
        self._most_rows = max(profile.sizes.get(BATCH, (1, 1, 1))[2] for profile in plan.info.profiles)
        self._signatures = _signatures(plan)
        self._dtypes = {item.name: item.dtype for item, _ in self._signatures}
        self._free: queue.LifoQueue[Lane] = queue.LifoQueue()
        self._lanes: list[Lane] = []
        self._lock = threading.Lock()
        if kernels is not None:
            weakref.finalize(self, kernels.save)

    def inputs(self) -> tuple[TensorSignature, ...]:
        """Inputs that the plan really has."""
        return tuple(item for item, is_input in self._signatures if is_input)

    def outputs(self) -> tuple[TensorSignature, ...]:
        """Outputs that the plan really has; a size that it leaves open and the graph does not is the graph's."""
        stated = {item.name: item.shape for item in self._graph.outputs}
        return tuple(
            TensorSignature(item.name, item.dtype, _closed(item.shape, stated.get(item.name, item.shape)))
            for item, is_input in self._signatures
            if not is_input
        )

    def prepare(self, tensors: _Arrays) -> Prepared:
        """Tensors on the device, where they stay: feeding them copies nothing."""
        self._cuda.use()
        return self._memory.upload({name: array.astype(self._dtypes[name]) for name, array in tensors.items()})

    def run(self, feeds: _Arrays, prepared: Prepared) -> NDArray[np.float32]:
        """Logits float32 ``[batch, labels]``; more rows than the largest profile takes are run one part after another.

        Raises:
            BackendError: rows longer than every profile, or a fault of the device.
        """
        self._cuda.use()
        return np.concatenate([self._run_part(*part) for part in self._parts(feeds, prepared)])

    def call(self, feeds: _Arrays, kept: Prepared) -> dict[str, Any]:
        """All outputs by name, on the device; more rows than the largest profile takes as for :meth:`run`.

        Raises:
            BackendError: sizes outside every profile, or a fault of the device.
        """
        self._cuda.use()
        found = [self._call_part(*part) for part in self._parts(feeds, kept)]
        return dict(found[0] if len(found) == 1 else self._memory.stacked(found))

    def evaluate(self, prepared: Prepared) -> Distinct:
        """All outputs for ``prepared``, on the device, by name."""
        return Distinct(self.call({}, prepared))

    def stack(self, rows: Sequence[Prepared]) -> Prepared:
        """Tensors of ``rows`` one after the other along the first axis."""
        self._cuda.use()
        return self._memory.stacked(rows)

    def pick(self, kept: Prepared, rows: NDArray[np.int64]) -> Prepared:
        """Rows of tensors by their places on the first axis, copied on the device."""
        self._cuda.use()
        return self._memory.picked(kept, rows)

    def array(self, kept: Any) -> NDArray[Any]:
        """A tensor as an array of the host."""
        self._cuda.use()
        return self._memory.download(kept)

    def _parts(self, feeds: _Arrays, kept: DeviceTensors) -> Iterator[tuple[_Arrays, DeviceTensors]]:
        """The call in as many as its rows need."""
        rows, most = self._sizes(feeds, kept).get(BATCH, 1), self._most_rows
        if rows <= most:
            yield feeds, kept
            return
        for start in range(0, rows, most):
            yield (
                {name: array[start : start + most] for name, array in feeds.items()},
                {
                    name: self._memory.part(tensor, start, start + most) if self._by_row(name, tensor) else tensor
                    for name, tensor in kept.items()
                },
            )

    def _by_row(self, name: str, tensor: DeviceTensor) -> bool:
        """Whether ``tensor`` has something else for each row; one row's weights may serve all."""
        return self._leading[name] == BATCH or (self._leading[name] == ROWS and tensor.shape[0] > 1)

    def _sizes(self, feeds: _Arrays, kept: DeviceTensors) -> dict[str, int]:
        shapes = {name: array.shape for name, array in feeds.items()}
        return sizes_of(self._graph.inputs, shapes | {name: tensor.shape for name, tensor in kept.items()})

    def _run_part(self, feeds: _Arrays, prepared: DeviceTensors) -> NDArray[np.float32]:
        profile, arrays, tensors = self._fitted(feeds, prepared)
        with self.lane() as lane:
            logits = lane.run(profile, arrays, tensors)
        rows, tokens = feeds["input_ids"].shape
        return logits[:rows, :tokens] if logits.ndim == 3 else logits[:rows]

    def _call_part(self, feeds: _Arrays, kept: DeviceTensors) -> dict[str, DeviceTensor]:
        info = self.plan.info
        fit = fit_profile(info.profiles, self._sizes(feeds, kept), info.path, fill=False)
        with self.lane() as lane:
            return lane.call(fit.profile, feeds, kept, self._memory)

    def _fitted(self, feeds: _Arrays, prepared: DeviceTensors) -> tuple[int, dict[str, NDArray[Any]], DeviceTensors]:
        """The profile for a batch, and the batch as large as it has to be for it."""
        info, sizes = self.plan.info, self._sizes(feeds, prepared)
        fit = fit_profile(info.profiles, sizes, info.path)
        rows = np.arange(fit.sizes[BATCH])
        rows[sizes[BATCH] :] = 0  # as in the feeds
        filled = {
            name: tensor
            if len(rows) == sizes[BATCH] or not self._by_row(name, tensor)
            else self._memory.picked({name: tensor}, rows)[name]
            for name, tensor in prepared.items()
        }
        return fit.profile, filled_feeds(feeds, fit.sizes, self._pad_token_id), filled

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
        config = () if self._kernels is None else (self._kernels.config,)
        context = self.plan.engine.create_execution_context(*config)
        outputs = tuple(item.name for item in self.outputs())
        capture = not self.plan.flavour.captures_itself
        return Lane(self.plan, self._cuda, context, self._dtypes, outputs, capture)

    @contextmanager
    def held(self, feeds: _Arrays, prepared: Prepared) -> Iterator[HeldCall]:
        """One batch in a lane, to be run again and again; its inputs are on the device already."""
        self._cuda.use()
        profile, arrays, tensors = self._fitted(feeds, prepared)
        with self.lane() as lane:
            binding = lane.stage(profile, arrays, tensors)
            call = PlanCall(lane, binding, tensors, tuple(arrays), graphs=not self.plan.flavour.captures_itself)
            call.enqueue(transfers=True, graph=False)
            call.wait()
            yield call


class PlanCall(HeldCall):
    """A batch that stays in its lane; made by :meth:`PlanEngine.held`."""

    def __init__(
        self, lane: Lane, binding: Binding, tensors: DeviceTensors, staged: tuple[str, ...], graphs: bool
    ) -> None:
        super().__init__(lane.stream, graphs)
        self._lane = lane
        self._binding = binding
        self._tensors = tensors  # must not go before the call does
        self._staged = staged

    def enqueue(self, transfers: bool, graph: bool) -> None:
        """Hands the batch to the device and returns."""
        self._lane.hand_over(self._binding, self._staged, transfers, graph)

    def logits(self) -> NDArray[np.float32]:
        """What the last batch with transfers gave."""
        return self._lane.logits()


def _closed(shape: tuple[Dimension, ...], stated: tuple[Dimension, ...]) -> tuple[Dimension, ...]:
    """TensorRT does not follow all arithmetic of shapes, and leaves open what comes out of it."""
    if len(shape) != len(stated):
        return shape
    return tuple(
        wanted if size == "?" and isinstance(wanted, int) else size for size, wanted in zip(shape, stated, strict=True)
    )


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
