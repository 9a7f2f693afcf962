"""Many arrays in one piece of memory.

What is kept for a task comes and goes as a whole: many small pieces would leave holes, and a process that keeps to a
budget would grow all the same. What is put together for one call is overwritten by the next, as fresh memory costs
more than copying into it.
"""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any
from weakref import ref

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


class Distinct(dict[str, Any]):
    """Tensors by name that can be told from others by who they are, without being held."""


@dataclass
class _Stacked:
    """What a thread put together last; ``rows`` are those that its block holds."""

    shapes: Shapes
    arrays: dict[str, NDArray[Any]]
    prepared: Mapping[str, Any]
    rows: list["ref[Distinct]"]

    def holds(self, place: int, row: Distinct) -> bool:
        return place < len(self.rows) and self.rows[place]() is row


class Stack:
    """Puts tensors of several calls one after the other, each thread in a block of its own that it uses again.

    What the block holds from the call before, at the same place, is not copied again.
    """

    def __init__(
        self,
        arrays_of: Callable[[Distinct], Mapping[str, NDArray[Any]]],
        prepare: Callable[[Mapping[str, NDArray[Any]]], Mapping[str, Any]],
    ) -> None:
        """``arrays_of`` gives the arrays ``[1, ...]`` of a row; ``prepare`` is called with those put together."""
        self._arrays_of = arrays_of
        self._prepare = prepare
        self._of_thread = threading.local()

    def stacked(self, rows: Sequence[Distinct]) -> Mapping[str, Any]:
        """What ``prepare`` makes of the arrays ``[rows, ...]`` by name; shorter axes are filled up with zeros.

        Valid until the same thread calls again.
        """
        last: _Stacked | None = getattr(self._of_thread, "last", None)
        if last is not None and len(last.rows) == len(rows) and all(map(last.holds, range(len(rows)), rows)):
            return last.prepared
        self._of_thread.last = None  # until the block is whole again
        self._of_thread.last = found = self._put_together(rows, last)
        return found.prepared

    def _put_together(self, rows: Sequence[Distinct], last: _Stacked | None) -> _Stacked:
        parts = [self._arrays_of(row) for row in rows]
        shapes = {name: (str(array.dtype), _common_shape(name, parts)) for name, array in parts[0].items()}
        if last is None or last.shapes != shapes:
            last = _Stacked(shapes, arrays_in_block(shapes, self._block(block_bytes(shapes))), {}, [])
        for place, (row, arrays) in enumerate(zip(rows, parts, strict=True)):
            if not last.holds(place, row):
                _fill(last.arrays, place, arrays)
        return replace(last, prepared=self._prepare(last.arrays), rows=[ref(row) for row in rows])

    def _block(self, size: int) -> NDArray[np.uint8]:
        block: NDArray[np.uint8] | None = getattr(self._of_thread, "block", None)
        if block is None or len(block) < size:
            block = self._of_thread.block = np.empty(size, dtype=np.uint8)
        return block


def _common_shape(name: str, parts: Sequence[Mapping[str, NDArray[Any]]]) -> tuple[int, ...]:
    return (len(parts), *map(max, zip(*(arrays[name].shape[1:] for arrays in parts), strict=True)))


def _fill(targets: Mapping[str, NDArray[Any]], place: int, arrays: Mapping[str, NDArray[Any]]) -> None:
    for name, array in arrays.items():
        target = targets[name][place : place + 1]
        if array.shape != target.shape:
            target[...] = 0
        target[(slice(None), *map(slice, array.shape[1:]))] = array


def _rounded(size: int) -> int:
    return -(-size // _ALIGNED) * _ALIGNED
