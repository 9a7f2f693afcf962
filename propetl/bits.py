"""Binary masks as bits: packing, unpacking, counting, comparing. numpy only, so that a device has it.

A mask over ``n`` weights is stored in ``ceil(n / 8)`` bytes, little bit order: weight ``i`` is bit ``i % 8``
(value ``1 << (i % 8)``) of byte ``i // 8``. Unused bits of the last byte are zero.
"""

import numpy as np
from numpy.typing import NDArray

BITS_PER_BYTE = 8

_ONES_IN_BYTE = np.array([bin(value).count("1") for value in range(256)], dtype=np.int64)


def packed_length(count: int) -> int:
    """Bytes that ``count`` mask entries take."""
    return -(-count // BITS_PER_BYTE)


def pack(mask: NDArray[np.bool_]) -> NDArray[np.uint8]:
    """Packs the last axis of a boolean mask ``[..., n]`` to uint8 ``[..., ceil(n / 8)]``."""
    return np.packbits(np.asarray(mask, dtype=bool), axis=-1, bitorder="little")


def unpack(packed: NDArray[np.uint8], count: int) -> NDArray[np.bool_]:
    """Inverse of :func:`pack`: uint8 ``[..., ceil(count / 8)]`` to bool ``[..., count]``."""
    return np.unpackbits(packed, axis=-1, count=count, bitorder="little").astype(bool)


def padding_is_zero(packed: NDArray[np.uint8], count: int) -> bool:
    """Whether the unused bits of each last byte are zero, as the format asks."""
    used = count % BITS_PER_BYTE
    return used == 0 or not np.any(packed[..., -1] >> used)


def count_ones(packed: NDArray[np.uint8]) -> NDArray[np.int64]:
    """Ones along the last axis of a packed mask ``[..., bytes]``: int64 ``[...]``."""
    counts: NDArray[np.int64] = _ONES_IN_BYTE[packed].sum(axis=-1)
    return counts


def jaccard(left: NDArray[np.uint8], right: NDArray[np.uint8]) -> float:
    """Overlap of two packed masks of one shape: ones in both / ones in either; 1.0 if both are empty."""
    either = int(count_ones((left | right).reshape(-1)))
    return int(count_ones((left & right).reshape(-1))) / either if either else 1.0


def unpacking_table() -> NDArray[np.float32]:
    """Table float32 ``[256, 8]``: row ``byte`` holds the byte's eight mask entries as 0.0 or 1.0.

    Graphs unpack masks by indexing this table, since shifts and bitwise operators are not known to
    every engine (TensorRT parses neither).
    """
    byte_values = np.arange(256, dtype=np.uint8)[:, None]
    return np.unpackbits(byte_values, axis=-1, bitorder="little").astype(np.float32)
