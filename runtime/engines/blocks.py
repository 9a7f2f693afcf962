"""Many arrays in one piece of memory.

What is kept for a task comes and goes as a whole: many small pieces would leave holes, and a process that keeps to a
budget would grow all the same. What is put together for one call is overwritten by the next, as fresh memory costs
more than copying into it.
"""

import threading
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray

Shapes = Mapping[str, tuple[str, tuple[int, ...]]]
"""Type and shape by name."""

_ALIGNED = 64  # bytes: a line of the cache


def arrays_in_block(shapes: Shapes, block: NDArray[np.uint8] | None = None) -> dict[str, NDArray[Any]]:
    """Arrays of ``shapes``, not filled, one after the other in ``block``, or in a new one."""
    if block is None:
        block = np.empty(block_bytes(shapes), dtype=np.uint8)
    start, arrays = 0, {}
    for name, (dtype, shape) in shapes.items():
        size = int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))
        arrays[name] = block[start : start + size].view(dtype).reshape(shape)
        start += _rounded(size)
    return arrays


def block_bytes(shapes: Shapes) -> int:
    """Bytes of a block for ``shapes``."""
    return sum(
        _rounded(int(np.dtype(dtype).itemsize * np.prod(shape, dtype=np.int64))) for dtype, shape in shapes.values()
    )


class Stack:
    """Puts arrays of several calls one after the other, each thread in a block of its own that it uses again."""

    def __init__(self) -> None:
        self._of_thread = threading.local()

    def stacked(self, rows: Sequence[Mapping[str, NDArray[Any]]]) -> dict[str, NDArray[Any]]:
        """Arrays ``[1, ...]`` of ``rows`` as one ``[rows, ...]`` by name; shorter axes are filled up with zeros.

        Valid until the same thread calls again.
        """
        parts = {name: [row[name] for row in rows] for name in rows[0]}
        shapes = {name: (str(arrays[0].dtype), _common_shape(arrays)) for name, arrays in parts.items()}
        together = arrays_in_block(shapes, self._block(block_bytes(shapes)))
        for name, arrays in parts.items():
            _fill(together[name], arrays)
        return together

    def _block(self, size: int) -> NDArray[np.uint8]:
        block: NDArray[np.uint8] | None = getattr(self._of_thread, "block", None)
        if block is None or len(block) < size:
            block = self._of_thread.block = np.empty(size, dtype=np.uint8)
        return block


def _common_shape(arrays: Sequence[NDArray[Any]]) -> tuple[int, ...]:
    return (len(arrays), *map(max, zip(*(array.shape[1:] for array in arrays), strict=True)))


def _fill(target: NDArray[Any], arrays: Sequence[NDArray[Any]]) -> None:
    if any(array.shape[1:] != target.shape[1:] for array in arrays):
        target[...] = 0
    for row, array in enumerate(arrays):
        place: tuple[slice, ...] = (slice(row, row + 1), *map(slice, array.shape[1:]))
        target[place] = array


def _rounded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
