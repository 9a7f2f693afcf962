"""One execution context with a stream and buffers of its own: what one call at a time runs in."""

from collections import OrderedDict
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines.cuda_runtime import Cuda, DeviceBuffer, Graph, PinnedBuffer
from propetl.runtime.engines.device_memory import DeviceMemory, DeviceTensor, DeviceTensors, tensor_bytes
from propetl.runtime.engines.loaded_plan import LoadedPlan
from propetl.runtime.engines.plan_shapes import buffer_bytes
from propetl.runtime.engines.tensorrt_flavour import refused
from propetl.runtime.signatures import LOGITS

_MOST_GRAPHS = 32

Arrays = Mapping[str, NDArray[Any]]


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
        outputs: names of the outputs.
        capture: whether work that recurs becomes a CUDA graph here.
    """

    def __init__(
        self,
        plan: LoadedPlan,
        cuda: Cuda,
        context: Any,
        dtypes: Mapping[str, str],
        outputs: tuple[str, ...],
        capture: bool,
    ) -> None:
        self._plan = plan
        self._cuda = cuda
        self._context = context
        self._dtypes = dtypes
        self._outputs = outputs
        self._capture = capture
        self.stream = cuda.stream()
        self._device: dict[str, DeviceBuffer] = {}
        self._pinned: dict[str, PinnedBuffer] = {}
        self._profile: int | None = None
        self._bound: Binding | None = None
        self._shapes: dict[str, tuple[int, ...]] = {}
        self._graphs: OrderedDict[tuple[Binding, bool], Graph | None] = OrderedDict()

    def run(self, profile: int, arrays: Arrays, tensors: DeviceTensors) -> NDArray[np.float32]:
        """Logits of one batch, by a plan that gives nothing else.

        Args:
            profile: index of the optimisation profile.
            arrays: inputs on the host, copied with this call.
            tensors: inputs on the device.
        """
        binding = self.stage(profile, arrays, tensors)
        self.hand_over(binding, tuple(arrays), transfers=True)
        self.stream.synchronize()
        return self.logits()

    def call(
        self, profile: int, arrays: Arrays, tensors: DeviceTensors, memory: DeviceMemory
    ) -> dict[str, DeviceTensor]:
        """All outputs of one batch, in ``memory``; nothing is captured, as they are in another place each time.

        Args:
            profile: index of the optimisation profile.
            arrays: inputs on the host, copied with this call.
            tensors: inputs on the device; they are read in their place.
            memory: where the outputs go.
        """
        self._bind(self._written(profile, arrays, tensors))
        outputs = memory.empty({name: (self._dtypes[name], self._shapes[name]) for name in self._outputs})
        self._address({name: tensor.address for name, tensor in outputs.items()})
        self._enqueue(tuple(arrays), to_host=())
        self.stream.synchronize()
        return outputs

    def stage(self, profile: int, arrays: Arrays, tensors: DeviceTensors) -> Binding:
        """Puts ``arrays`` where the device copies them from, and makes the context ready for them."""
        binding = self._written(profile, arrays, tensors)
        if binding != self._bound:
            self._bind(binding)
            self._room(LOGITS, self._bytes(LOGITS))
            self._address({LOGITS: self._device[LOGITS].address})
            self._bound = binding
        return binding

    def _written(self, profile: int, arrays: Arrays, tensors: DeviceTensors) -> Binding:
        """Puts ``arrays`` where the device copies them from."""
        for name, array in arrays.items():
            array = array.astype(self._dtypes[name], copy=False)
            self._room(name, array.nbytes)
            self._pinned[name].write(array)
        shapes = {name: array.shape for name, array in arrays.items()}
        shapes |= {name: tensor.shape for name, tensor in tensors.items()}
        addresses = tuple(sorted((name, tensor.address) for name, tensor in tensors.items()))
        return Binding(profile, tuple(sorted(shapes.items())), addresses)

    def hand_over(self, binding: Binding, staged: tuple[str, ...], transfers: bool, capture: bool = True) -> None:
        """Gives the work to the device; returns at once. The second time the same work becomes a graph.

        Args:
            binding: what :meth:`stage` gave.
            staged: inputs that are copied with the work.
            transfers: copy them, and copy the logits back; without, the device works on what it has.
            capture: let it become a graph.
        """
        work = partial(self._enqueue, staged, (LOGITS,)) if transfers else partial(self._enqueue, (), ())
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
        logits = self._pinned[LOGITS].read(self._shapes[LOGITS], self._dtypes[LOGITS])
        return logits.astype(np.float32, copy=False)

    def _enqueue(self, to_device: tuple[str, ...], to_host: tuple[str, ...]) -> None:
        for name in to_device:
            self.stream.to_device(self._device[name], self._pinned[name], self._bytes(name))
        if not self._context.execute_async_v3(self.stream.handle):
            raise refused(self._plan.library, f"running {self._plan.info.path}")
        for name in to_host:
            self.stream.to_host(self._pinned[name], self._device[name].address, self._bytes(name))

    def _bytes(self, name: str) -> int:
        return tensor_bytes(self._dtypes[name], self._shapes[name])

    def _bind(self, binding: Binding) -> None:
        """Tells the context profile, shapes, and addresses of the inputs."""
        context, path = self._context, self._plan.info.path
        self._bound = None  # whatever fails below leaves it half told
        if binding.profile != self._profile:
            self._profile = None
            if not context.set_optimization_profile_async(binding.profile, self.stream.handle):
                raise refused(self._plan.library, f"profile {binding.profile} of {path}")
            self.stream.synchronize()
            self._profile = binding.profile
        for name, shape in binding.shapes:
            if not context.set_input_shape(name, shape):
                raise refused(self._plan.library, f"shape {list(shape)} of {name} for {path}")
        self._shapes = dict(binding.shapes) | {name: tuple(context.get_tensor_shape(name)) for name in self._outputs}
        held = {name: self._device[name].address for name, _ in binding.shapes if name in self._device}
        self._address(held | dict(binding.tensors))

    def _address(self, addresses: Mapping[str, int]) -> None:
        for name, address in addresses.items():
            if not self._context.set_tensor_address(name, address):
                raise refused(self._plan.library, f"the memory of {name} for {self._plan.info.path}")

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
