"""Tensors that stay on the device: made, copied, and put one after the other there.

What a call leaves behind, such as the cache of keys and values, lives in a block of its own. A block that nobody holds
any more is used again: the cache of one step goes into the block of the step before the last, and nothing is copied.
"""

import math
import threading
import weakref
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines.blocks import Shapes
from propetl.runtime.engines.cuda_runtime import Cuda, DeviceBuffer, PinnedBuffer, Stream
from propetl.runtime.engines.plan_shapes import buffer_bytes

_ALIGNED = 256  # bytes, as cudaMalloc does: TensorRT wants no less
_SMALLEST_BLOCK = 4096
_STEPS = 8
"""Sizes of blocks between one power of two and the next: at most an eighth is left over."""


class Block:
    """A piece of memory; goes back to where it was taken from when nobody holds it."""

    def __init__(self, buffer: DeviceBuffer) -> None:
        self.buffer = buffer


@dataclass(frozen=True)
class DeviceTensor:
    """A tensor that stays on the device.

    Attributes:
        shape: its sizes.
        dtype: numpy's name.
        block: the memory that it is in.
        offset: where in there it begins, in bytes.
    """

    shape: tuple[int, ...]
    dtype: str
    block: Block
    offset: int = 0

    @property
    def address(self) -> int:
        """Where it begins."""
        return self.block.buffer.address + self.offset

    @property
    def nbytes(self) -> int:
        """Its size."""
        return tensor_bytes(self.dtype, self.shape)

    def rows(self, start: int, stop: int) -> "DeviceTensor":
        """A part of it along the first axis, in the same memory."""
        row = self.nbytes // self.shape[0]
        stop = min(stop, self.shape[0])
        return DeviceTensor((stop - start, *self.shape[1:]), self.dtype, self.block, self.offset + start * row)


DeviceTensors = Mapping[str, DeviceTensor]


class DeviceMemory:
    """Where the tensors of one engine are. Safe to use from many threads at once."""

    def __init__(self, cuda: Cuda) -> None:
        self._cuda = cuda
        self._free: dict[int, list[DeviceBuffer]] = {}
        self._lock = threading.Lock()
        self._of_thread = threading.local()

    def empty(self, shapes: Shapes) -> dict[str, DeviceTensor]:
        """Tensors of ``shapes`` in one block; what is in them is undefined."""
        starts, size = {}, 0
        for name, (dtype, shape) in shapes.items():
            starts[name] = size
            size += _rounded(tensor_bytes(dtype, shape), _ALIGNED)
        block = self._block(size)
        return {name: DeviceTensor(shape, dtype, block, starts[name]) for name, (dtype, shape) in shapes.items()}

    def upload(self, arrays: Mapping[str, NDArray[Any]]) -> dict[str, DeviceTensor]:
        """``arrays`` on the device, all of them by one copy."""
        tensors = self.empty({name: (str(array.dtype), array.shape) for name, array in arrays.items()})
        size = max((tensor.offset + tensor.nbytes for tensor in tensors.values()), default=0)
        if size:
            staging = self._cuda.pinned(size)
            for name, array in arrays.items():
                staging.write(array, tensors[name].offset)
            self._stream.to_device(next(iter(tensors.values())).block.buffer, staging, size)
            self._stream.synchronize()
        return tensors

    def download(self, tensor: DeviceTensor) -> NDArray[Any]:
        """``tensor`` as an array of the host."""
        staging = self._staging(tensor.nbytes)
        if tensor.nbytes:
            self._stream.to_host(staging, tensor.address, tensor.nbytes)
            self._stream.synchronize()
        return staging.read(tensor.shape, tensor.dtype)

    def part(self, tensor: DeviceTensor, start: int, stop: int) -> DeviceTensor:
        """Rows of ``tensor``; copied only where TensorRT could not read them in their place."""
        part = tensor.rows(start, stop)
        return part if part.address % _ALIGNED == 0 else self.picked({"": part}, np.arange(part.shape[0]))[""]

    def picked(self, tensors: DeviceTensors, rows: NDArray[np.int64]) -> dict[str, DeviceTensor]:
        """Rows of ``tensors`` by their places on the first axis; neighbours are copied together."""
        made = self.empty({name: (tensor.dtype, (len(rows), *tensor.shape[1:])) for name, tensor in tensors.items()})
        for name, tensor in tensors.items():
            row = tensor.nbytes // max(1, tensor.shape[0])
            for target, source, count in _runs(rows):
                self._stream.copy(made[name].address + target * row, tensor.address + source * row, count * row)
        self._stream.synchronize()
        return made

    def stacked(self, rows: Sequence[DeviceTensors]) -> dict[str, DeviceTensor]:
        """Tensors of ``rows`` one after the other along the first axis; shorter axes are filled up with zeros."""
        parts = {name: [row[name] for row in rows] for name in rows[0]}
        shapes = {name: (tensors[0].dtype, _joined_shape(tensors)) for name, tensors in parts.items()}
        together = self.empty(shapes)
        for name, tensors in parts.items():
            self._join(together[name], tensors)
        self._stream.synchronize()
        return together

    def _join(self, target: DeviceTensor, tensors: Sequence[DeviceTensor]) -> None:
        if any(tensor.shape[1:] != target.shape[1:] for tensor in tensors):
            self._stream.clear(target.address, target.nbytes)
        start = 0
        for tensor in tensors:
            self._place(target.rows(start, start + tensor.shape[0]), tensor)
            start += tensor.shape[0]

    def _place(self, target: DeviceTensor, source: DeviceTensor) -> None:
        """Copies ``source`` to the beginning of every axis of ``target``; one of them at most may be longer."""
        axes = [axis for axis in range(len(target.shape)) if target.shape[axis] != source.shape[axis]]
        axis = axes[0] if axes else 0
        assert len(axes) < 2, f"{source.shape} and {target.shape}: a head has one free size"
        lines = math.prod(source.shape[:axis])
        widths = [tensor_bytes(tensor.dtype, tensor.shape[axis:]) for tensor in (target, source)]
        self._stream.copy_lines((target.address, widths[0]), (source.address, widths[1]), widths[1], lines)

    @property
    def _stream(self) -> Stream:
        """The calling thread's own."""
        if not hasattr(self._of_thread, "stream"):
            self._of_thread.stream = self._cuda.stream()
        stream: Stream = self._of_thread.stream
        return stream

    def _staging(self, size: int) -> PinnedBuffer:
        """Host memory of the calling thread's, which grows."""
        held: PinnedBuffer | None = getattr(self._of_thread, "staging", None)
        wanted = buffer_bytes(max(1, size), 0 if held is None else held.size)
        if held is None or held.size != wanted:
            held = self._of_thread.staging = self._cuda.pinned(wanted)
        return held

    def _block(self, size: int) -> Block:
        wanted = block_size(size)
        with self._lock:
            waiting = self._free.get(wanted)
            buffer = waiting.pop() if waiting else None
        block = Block(self._cuda.buffer(wanted) if buffer is None else buffer)
        weakref.finalize(block, self._give_back, block.buffer).atexit = False
        return block

    def _give_back(self, buffer: DeviceBuffer) -> None:
        with self._lock:
            self._free.setdefault(buffer.size, []).append(buffer)


def tensor_bytes(dtype: str, shape: Sequence[int]) -> int:
    """Bytes of a tensor."""
    return int(np.dtype(dtype).itemsize) * math.prod(shape)


def block_size(size: int) -> int:
    """How large the block for ``size`` bytes is: sizes that differ by little get blocks of one size."""
    step = max(_SMALLEST_BLOCK, (1 << max(size - 1, 0).bit_length()) // (2 * _STEPS))
    return _rounded(max(size, 1), step)


def _rounded(size: int, step: int) -> int:
    return -(-size // step) * step


def _joined_shape(tensors: Sequence[DeviceTensor]) -> tuple[int, ...]:
    longest = map(max, zip(*(tensor.shape[1:] for tensor in tensors), strict=True))
    return (sum(tensor.shape[0] for tensor in tensors), *longest)


def _runs(rows: NDArray[np.int64]) -> list[tuple[int, int, int]]:
    """``rows`` as pieces that lie side by side: first place in the result, first place in the source, count."""
    if not len(rows):
        return []
    starts = np.flatnonzero(np.diff(rows, prepend=rows[0] - 2) != 1)
    counts = np.diff(starts, append=len(rows))
    return [(int(start), int(rows[start]), int(count)) for start, count in zip(starts, counts, strict=True)]
