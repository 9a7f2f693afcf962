"""One execution context with a stream and buffers of its own: what one call at a time runs in."""

import math
from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines.cuda_runtime import Cuda, DeviceBuffer, Graph, PinnedBuffer
from propetl.runtime.engines.plan_library import LoadedPlan, refused
from propetl.runtime.engines.plan_shapes import buffer_bytes
from propetl.runtime.signatures import LOGITS

_MOST_GRAPHS = 32

Arrays = Mapping[str, NDArray[Any]]


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor that stays on the device.

    Attributes:
        shape: its sizes.
        buffer: its memory.
    """

    shape: tuple[int, ...]
    buffer: DeviceBuffer


@dataclass(frozen=True)
class Binding:
    """All that a context has to be told before it runs: equal bindings are the same work on other numbers.

    Attributes:
        profile: index of the optimisation profile.
        shapes: of every input.
        tensors: address of every input that is on the device already.
    """

    profile: int
    shapes: tuple[tuple[str, tuple[int, ...]], ...]
    tensors: tuple[tuple[str, int], ...]


class Lane:
    """Runs one batch at a time; buffers are kept from call to call, and grow.

    Args:
        plan: to run.
        cuda: the device.
        context: an ``IExecutionContext`` of the plan.
        dtypes: of every input and output, by name.
        capture: whether work that recurs becomes a CUDA graph here.
    """

    def __init__(self, plan: LoadedPlan, cuda: Cuda, context: Any, dtypes: Mapping[str, Any], capture: bool) -> None:
        self._plan = plan
        self._cuda = cuda
        self._context = context
        self._dtypes = dtypes
        self._capture = capture
        self.stream = cuda.stream()
        self._device: dict[str, DeviceBuffer] = {}
        self._pinned: dict[str, PinnedBuffer] = {}
        self._bound: Binding | None = None
        self._output: tuple[int, ...] = ()
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graphs: OrderedDict[tuple[Binding, bool], Graph | None] = OrderedDict()

    def run(self, profile: int, arrays: Arrays, tensors: Mapping[str, DeviceTensor]) -> NDArray[np.float32]:
        """Logits of one batch.

        Args:
            profile: index of the optimisation profile.
            arrays: inputs on the host, copied with this call.
            tensors: inputs on the device.
        """
        binding = self.stage(profile, arrays, tensors)
        self.hand_over(binding, tuple(arrays), transfers=True)
        self.stream.synchronize()
        return self.logits()

    def stage(self, profile: int, arrays: Arrays, tensors: Mapping[str, DeviceTensor]) -> Binding:
        """Puts ``arrays`` where the device copies them from, and makes the context ready for them."""
        for name, array in arrays.items():
            array = array.astype(self._dtypes[name], copy=False)
            self._room(name, array.nbytes)
            self._pinned[name].write(array)
        shapes = {name: array.shape for name, array in arrays.items()}
        shapes |= {name: tensor.shape for name, tensor in tensors.items()}
        addresses = tuple(sorted((name, tensor.buffer.address) for name, tensor in tensors.items()))
        binding = Binding(profile, tuple(sorted(shapes.items())), addresses)
        if binding != self._bound:
            self._bind(binding)
        return binding

    def hand_over(self, binding: Binding, staged: tuple[str, ...], transfers: bool, capture: bool = True) -> None:
        """Gives the work to the device; returns at once. The second time the same work becomes a graph.

        Args:
            binding: what :meth:`stage` gave.
            staged: inputs that are copied with the work.
            transfers: copy them, and copy the logits back; without, the device works on what it has.
            capture: let it become a graph.
        """
        work = partial(self._enqueue, staged if transfers else (), transfers)
        key = (binding, transfers)
        if not (self._capture and capture):
            work()
        elif key not in self._graphs:
            work()  # TensorRT wants to run a shape once before it is captured
            self._remember(key, None)
        else:
            graph = self._graphs[key] or self.stream.capture(work)
            self._remember(key, graph)
            self.stream.launch(graph)

    def forget_graphs(self) -> None:
        """Lets go of all graphs."""
        self._graphs.clear()

    def logits(self) -> NDArray[np.float32]:
        """What the last work left on the host, which has to be done; a copy."""
        return self._pinned[LOGITS].read(self._output, self._dtypes[LOGITS]).astype(np.float32, copy=False)

    def _enqueue(self, staged: tuple[str, ...], transfers: bool) -> None:
        for name in staged:
            self.stream.to_device(self._device[name], self._pinned[name], self._bytes(name))
        if not self._context.execute_async_v3(self.stream.handle):
            raise refused(self._plan.library, f"running {self._plan.info.path}")
        if transfers:
            self.stream.to_host(self._pinned[LOGITS], self._device[LOGITS], self._bytes(LOGITS))

    def _bytes(self, name: str) -> int:
        return math.prod(self._shapes[name]) * int(np.dtype(self._dtypes[name]).itemsize)

    def _bind(self, binding: Binding) -> None:
        """Tells the context profile, shapes and addresses, and makes room for the logits."""
        context, path = self._context, self._plan.info.path
        if self._bound is None or binding.profile != self._bound.profile:
            if not context.set_optimization_profile_async(binding.profile, self.stream.handle):
                raise refused(self._plan.library, f"profile {binding.profile} of {path}")
            self.stream.synchronize()
        self._bound = None  # whatever fails below leaves it half told
        for name, shape in binding.shapes:
            if not context.set_input_shape(name, shape):
                raise refused(self._plan.library, f"shape {list(shape)} of {name} for {path}")
        self._output = tuple(context.get_tensor_shape(LOGITS))
        self._shapes = dict(binding.shapes) | {LOGITS: self._output}
        self._room(LOGITS, self._bytes(LOGITS))
        addresses = {name: buffer.address for name, buffer in self._device.items()} | dict(binding.tensors)
        for name in self._shapes:
            if not context.set_tensor_address(name, addresses[name]):
                raise refused(self._plan.library, f"the memory of {name} for {path}")
        self._bound = binding

    def _room(self, name: str, size: int) -> None:
        """Buffers of at least ``size`` bytes; new ones have new addresses, which no graph knows."""
        held = self._device[name].size if name in self._device else 0
        wanted = buffer_bytes(size, held)
        if wanted != held:
            self._graphs.clear()
            self._bound = None
            self._device[name] = self._cuda.buffer(wanted)
            self._pinned[name] = self._cuda.pinned(wanted)

    def _remember(self, key: tuple[Binding, bool], graph: Graph | None) -> None:
        self._graphs[key] = graph
        self._graphs.move_to_end(key)
        if len(self._graphs) > _MOST_GRAPHS:
            self._graphs.popitem(last=False)
