"""Stands in for ``cuda.bindings.runtime``: memory of the host, and streams that do nothing before they are waited for.

Work is put off on purpose: who reads before waiting reads what was there before, who frees too early is caught.
"""

import ctypes
import enum
import itertools
from types import SimpleNamespace

cudaStreamNonBlocking = 1


class cudaError_t(enum.Enum):
    cudaSuccess = 0
    cudaErrorMemoryAllocation = 2
    cudaErrorIllegalAddress = 700


class cudaMemcpyKind(enum.Enum):
    cudaMemcpyHostToDevice = 1
    cudaMemcpyDeviceToHost = 2
    cudaMemcpyDeviceToDevice = 3


class cudaStreamCaptureMode(enum.Enum):
    cudaStreamCaptureModeThreadLocal = 1


OK = cudaError_t.cudaSuccess
ALIGNMENT = 256


class StreamDouble:
    """Work in order."""

    handles = itertools.count(1)

    def __init__(self):
        self.handle = next(self.handles)
        self.waiting = []
        self.captured = None

    def __int__(self):
        return self.handle

    def push(self, work):
        (self.waiting if self.captured is None else self.captured).append(work)


class CudaDouble:
    """The module. ``count`` GPUs of compute capability ``major.minor``."""

    cudaError_t = cudaError_t
    cudaMemcpyKind = cudaMemcpyKind
    cudaStreamCaptureMode = cudaStreamCaptureMode
    cudaStreamNonBlocking = cudaStreamNonBlocking

    def __init__(self, count=1, major=8, minor=6):
        self.count, self.major, self.minor = count, major, minor
        self.memory, self.streams = {}, {}
        self.calls = []
        self.devices = []
        self.clock = itertools.count()
        self.room = 1 << 30

    def cudaGetDeviceCount(self):
        return OK, self.count

    def cudaSetDevice(self, device):
        self.devices.append(device)
        return (OK,)

    def cudaGetDeviceProperties(self, device):
        return OK, SimpleNamespace(major=self.major, minor=self.minor)

    def cudaMemGetInfo(self):
        held = sum(size for size, _ in self.memory.values())
        return OK, self.room - held, self.room

    def cudaMalloc(self, size):
        if size > self.room:
            return cudaError_t.cudaErrorMemoryAllocation, None
        block = (ctypes.c_uint8 * (size + ALIGNMENT))()
        address = -(-ctypes.addressof(block) // ALIGNMENT) * ALIGNMENT
        self.memory[address] = (size, block)
        self.calls.append("malloc")
        return OK, address

    def check(self, address, size):
        """Fails where memory was freed, or is not ours."""
        inside = (start <= address and address + size <= start + held for start, (held, _) in self.memory.items())
        assert any(inside), "memory was freed, or is too small"

    cudaMallocHost = cudaMalloc

    def cudaFree(self, address):
        del self.memory[address]
        return (OK,)

    cudaFreeHost = cudaFree

    def cudaStreamCreateWithFlags(self, flags):
        stream = StreamDouble()
        self.streams[stream.handle] = stream
        return OK, stream

    def cudaStreamDestroy(self, stream):
        self.streams.pop(stream.handle)
        return (OK,)

    def cudaMemcpyAsync(self, target, source, size, kind, stream):
        return self.cudaMemcpy2DAsync(target, size, source, size, size, 1, kind, stream)

    def cudaMemcpy2DAsync(self, target, target_pitch, source, source_pitch, width, height, kind, stream):
        def copy():
            for line in range(height):
                places = target + line * target_pitch, source + line * source_pitch
                for place in places:
                    self.check(place, width)
                ctypes.memmove(*places, width)

        assert width <= min(target_pitch, source_pitch)
        self.calls.append(kind.name.removeprefix("cudaMemcpy"))
        stream.push(copy)
        return (OK,)

    def cudaMemsetAsync(self, address, value, size, stream):
        def fill():
            self.check(address, size)
            ctypes.memset(address, value, size)

        stream.push(fill)
        return (OK,)

    def cudaStreamSynchronize(self, stream):
        for work in stream.waiting:
            work()
        stream.waiting = []
        return (OK,)

    def cudaEventCreate(self):
        return OK, SimpleNamespace(moment=None)

    def cudaEventDestroy(self, event):
        return (OK,)

    def cudaEventRecord(self, event, stream):
        stream.push(lambda: setattr(event, "moment", next(self.clock)))
        return (OK,)

    def cudaEventElapsedTime(self, start, end):
        return OK, float(end.moment - start.moment)

    def cudaStreamBeginCapture(self, stream, mode):
        stream.captured = []
        return (OK,)

    def cudaStreamEndCapture(self, stream):
        captured, stream.captured = stream.captured, None
        return OK, captured

    def cudaGraphInstantiate(self, graph, flags):
        self.calls.append("instantiate")
        return OK, tuple(graph)

    def cudaGraphDestroy(self, graph):
        return (OK,)

    def cudaGraphExecDestroy(self, graph):
        return (OK,)

    def cudaGraphLaunch(self, graph, stream):
        self.calls.append("launch")
        for work in graph:
            stream.push(work)
        return (OK,)

    def cudaGetErrorString(self, error):
        return OK, error.name.encode()
