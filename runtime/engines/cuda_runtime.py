"""CUDA's runtime through ``cuda-bindings``: memory, streams, events and graphs, with errors as one line.

The only module that imports it. Every call is made on the device that was chosen, from whichever thread.
"""

import ctypes
import weakref
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from importlib.util import find_spec
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import BackendError, MissingExtraError


def has_cuda_bindings() -> bool:
    """Whether ``cuda-bindings`` is installed; nothing is loaded."""
    try:
        return find_spec("cuda.bindings.runtime") is not None
    except (ImportError, ValueError):
        return False


def load_cuda(device: int, extra: str) -> "Cuda":
    """CUDA on ``device``.

    Args:
        device: number of the GPU.
        extra: that brings ``cuda-bindings``, for the message.

    Raises:
        MissingExtraError: ``cuda-bindings`` is not installed.
        BackendError: no driver, or no such GPU.
    """
    try:
        runtime = import_module("cuda.bindings.runtime")
    except ImportError as error:
        raise MissingExtraError("running an engine", "cuda.bindings", extra) from error
    return Cuda(runtime, device)


class Cuda:
    """One device."""

    def __init__(self, runtime: Any, device: int) -> None:
        self._runtime = runtime
        self.device = device
        count = self._call("cudaGetDeviceCount")
        if device >= count:
            raise BackendError(f"there are {count} GPUs here, and --device {device} counts from 0; look at nvidia-smi")
        self.use()

    def use(self) -> None:
        """Makes the device that of the calling thread."""
        self._call("cudaSetDevice", self.device)

    def compute_capability(self) -> int:
        """As 86 for SM 8.6."""
        properties = self._call("cudaGetDeviceProperties", self.device)
        return 10 * int(properties.major) + int(properties.minor)

    def memory(self) -> tuple[int, int]:
        """Free bytes and all bytes of the device, whoever holds them."""
        free, total = self._call("cudaMemGetInfo")
        return int(free), int(total)

    def buffer(self, size: int) -> "DeviceBuffer":
        """``size`` bytes on the device."""
        return DeviceBuffer(self, size)

    def pinned(self, size: int) -> "PinnedBuffer":
        """``size`` bytes of the host that the device copies from and to without help of the CPU."""
        return PinnedBuffer(self, size)

    def stream(self) -> "Stream":
        """A stream that does not wait for the default one."""
        return Stream(self)

    def _call(self, name: str, *arguments: Any) -> Any:
        """What a function of the runtime gives besides its error, which is raised."""
        error, *values = getattr(self._runtime, name)(*arguments)
        if error != self._runtime.cudaError_t.cudaSuccess:
            raise BackendError(f"CUDA refuses {name}: {self._reason(error)}; look at nvidia-smi for driver and memory")
        return values[0] if len(values) == 1 else tuple(values)

    def _reason(self, error: Any) -> str:
        _, text = self._runtime.cudaGetErrorString(error)
        return text.decode() if isinstance(text, bytes) else str(text)

    def _kept(self, owner: object, name: str, handle: Any) -> None:
        """Gives ``handle`` back when ``owner`` goes; at the end of the process that may be too late, and is fine."""
        weakref.finalize(owner, getattr(self._runtime, name), handle)


class DeviceBuffer:
    """Memory of the device."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.size = size
        self.address = int(cuda._call("cudaMalloc", size))
        cuda._kept(self, "cudaFree", self.address)


class PinnedBuffer:
    """Memory of the host, as bytes."""

    def __init__(self, cuda: Cuda, size: int) -> None:
        self.size = size
        self.address = int(cuda._call("cudaMallocHost", size))
        cuda._kept(self, "cudaFreeHost", self.address)
        self._bytes = np.ctypeslib.as_array((ctypes.c_uint8 * size).from_address(self.address))

    def write(self, array: NDArray[Any], start: int = 0) -> None:
        """Puts ``array`` at byte ``start``."""
        self._bytes[start : start + array.nbytes] = np.ascontiguousarray(array).reshape(-1).view(np.uint8)

    def read(self, shape: tuple[int, ...], dtype: Any) -> NDArray[Any]:
        """A copy of what stands at the beginning."""
        size = int(np.prod(shape)) * np.dtype(dtype).itemsize
        found: NDArray[Any] = self._bytes[:size].view(dtype).reshape(shape).copy()
        return found


class Event:
    """A moment in a stream."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self.handle = cuda._call("cudaEventCreate")
        cuda._kept(self, "cudaEventDestroy", self.handle)

    def milliseconds_since(self, start: "Event") -> float:
        """Time of the device between two events that have happened."""
        return float(self._cuda._call("cudaEventElapsedTime", start.handle, self.handle))


class Graph:
    """Work that was captured, to be launched as a whole."""

    def __init__(self, cuda: Cuda, captured: Any) -> None:
        self.handle = cuda._call("cudaGraphInstantiate", captured, 0)
        cuda._kept(self, "cudaGraphExecDestroy", self.handle)
        cuda._call("cudaGraphDestroy", captured)


class Stream:
    """Work that the device does in order."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._runtime = cuda._runtime
        self._stream = cuda._call("cudaStreamCreateWithFlags", self._runtime.cudaStreamNonBlocking)
        self.handle = int(self._stream)
        cuda._kept(self, "cudaStreamDestroy", self._stream)

    def to_device(self, target: DeviceBuffer, source: PinnedBuffer, size: int) -> None:
        """Copies to the device; returns at once."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyHostToDevice
        self._cuda._call("cudaMemcpyAsync", target.address, source.address, size, kind, self._stream)

    def to_host(self, target: PinnedBuffer, source: int, size: int) -> None:
        """Copies from address ``source`` of the device to the host; returns at once."""
        kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToHost
        self._cuda._call("cudaMemcpyAsync", target.address, source, size, kind, self._stream)

    def copy(self, target: int, source: int, size: int) -> None:
        """Copies from one address of the device to another; returns at once."""
        if size:
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
            self._cuda._call("cudaMemcpyAsync", target, source, size, kind, self._stream)

    def copy_lines(self, target: tuple[int, int], source: tuple[int, int], width: int, lines: int) -> None:
        """Copies lines on the device; returns at once.

        Args:
            target: address, and bytes from one line to the next.
            source: the same.
            width: bytes of each line.
            lines: how many.
        """
        if width and lines:
            kind = self._runtime.cudaMemcpyKind.cudaMemcpyDeviceToDevice
            self._cuda._call("cudaMemcpy2DAsync", *target, *source, width, lines, kind, self._stream)

    def clear(self, address: int, size: int) -> None:
        """Fills memory of the device with zeros; returns at once."""
        if size:
            self._cuda._call("cudaMemsetAsync", address, 0, size, self._stream)

    def synchronize(self) -> None:
        """Waits until all that was handed over is done."""
        self._cuda._call("cudaStreamSynchronize", self._stream)

    def event(self) -> Event:
        """A new event, recorded now."""
        event = Event(self._cuda)
        self.record(event)
        return event

    def record(self, event: Event) -> None:
        """Records ``event`` after what was handed over so far."""
        self._cuda._call("cudaEventRecord", event.handle, self._stream)

    def capture(self, work: Callable[[], None]) -> Graph:
        """What ``work`` hands over to this stream, not run but kept as a graph."""
        with self._capturing() as captured:
            work()
        return Graph(self._cuda, captured[0])

    @contextmanager
    def _capturing(self) -> Iterator[list[Any]]:
        mode = self._runtime.cudaStreamCaptureMode.cudaStreamCaptureModeThreadLocal
        self._cuda._call("cudaStreamBeginCapture", self._stream, mode)
        captured: list[Any] = []
        try:
            yield captured
        except BaseException:
            self._runtime.cudaStreamEndCapture(self._stream)  # the stream is of no use until it is ended
            raise
        captured.append(self._cuda._call("cudaStreamEndCapture", self._stream))

    def launch(self, graph: Graph) -> None:
        """Hands over a graph."""
        self._cuda._call("cudaGraphLaunch", graph.handle, self._stream)
