"""Reading and checking safetensors files without trusting them."""

from dataclasses import dataclass
from math import prod
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl import fields
from propetl.bits import padding_is_zero
from propetl.bundle.format import METADATA_KEY, metadata
from propetl.errors import BundleError
from propetl.prototypes.layout import TaskLayout
from propetl.strict_json import parse_json

Arrays = dict[str, NDArray[Any]]

_LENGTH_BYTES = 8  # a file begins with the length of its header
_TYPES = {
    "BOOL": np.dtype("?"),
    **{f"{kind.upper()}{8 * size}": np.dtype(f"<{kind}{size}") for kind in "iu" for size in (1, 2, 4, 8)},
    **{f"F{8 * size}": np.dtype(f"<f{size}") for size in (2, 4, 8)},
}


def tensor_bytes(tensors: Arrays, description: dict[str, Any]) -> bytes:
    """One safetensors file: ``tensors`` sorted by name, ``description`` as its metadata."""
    from safetensors.numpy import save  # here: what only reads does without

    ordered = {name: np.ascontiguousarray(tensors[name]) for name in sorted(tensors)}
    return save(ordered, metadata=metadata(description))


def read_tensors(path: Path) -> tuple[Arrays, dict[str, Any]]:
    """Tensors and description of one file.

    Raises:
        BundleError: the file is missing, truncated or not safetensors.
    """
    try:
        content = path.read_bytes()
    except FileNotFoundError as error:
        raise BundleError(f"{path}: no such file") from error
    except PermissionError as error:
        raise BundleError(f"{path}: no permission to read it") from error
    except OSError as error:
        raise _unreadable(str(path), error) from error
    return tensors_of(content, str(path))


def read_header(path: Path) -> tuple[dict[str, tuple[int, ...]], dict[str, Any]]:
    """Shapes by tensor, and the description, of one file whose values are not read.

    Raises:
        BundleError: the file cannot be read, or does not begin as safetensors do.
    """
    try:
        with path.open("rb") as stream:
            length = int.from_bytes(stream.read(_LENGTH_BYTES), "little")
            if length > path.stat().st_size:
                raise ValueError("its header is incomplete")
            header, described = _header_of(stream.read(length))
        return {name: entry.shape for name, entry in header.items()}, described
    except (OSError, ValueError) as error:
        raise _unreadable(str(path), error) from error


def _header_of(content: bytes) -> "tuple[dict[str, _Entry], Any]":
    """Entries by tensor, and the description, which can be any JSON."""
    header = fields.entries(parse_json(content), "header")
    about = fields.each(fields.text, header.pop("__metadata__", {}), "__metadata__")
    described = parse_json(about.get(METADATA_KEY, "{}"))
    return {name: _Entry.from_json(name, value) for name, value in header.items()}, described


def tensors_of(content: bytes, source: str) -> tuple[Arrays, dict[str, Any]]:
    """:func:`read_tensors` for the content of file ``source``, which was read already."""
    start = _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")
    try:
        if start > len(content):
            raise ValueError("its header is incomplete")
        header, described = _header_of(content[_LENGTH_BYTES:start])
        return _views(header, bytearray(content[start:])), described
    except ValueError as error:
        raise _unreadable(source, error) from error


def _views(header: "dict[str, _Entry]", values: bytearray) -> Arrays:
    """Arrays over ``values``, which they have to fill one after the other, with no bytes between them or left over.

    Read here and not by the library, which does not give the description: the header would be read twice, and every
    task's first answer waits for it.
    """
    tensors, place = {}, 0
    for name, entry in sorted(header.items(), key=lambda item: item[1].offsets):
        if entry.offsets != (place, place + entry.bytes):
            raise ValueError(f"bytes {list(entry.offsets)} are not those of {name}")
        if entry.offsets[1] > len(values):
            raise ValueError(f"{len(values)} bytes of values, where its header says {entry.offsets[1]} and more")
        tensors[name] = np.ndarray(entry.shape, entry.dtype, values, place)  # a ValueError beyond numpy's dimensions
        place += entry.bytes
    if place != len(values):
        raise ValueError(f"{len(values)} bytes of values, where its header says {place}")
    return tensors


@dataclass(frozen=True)
class _Entry:
    """One tensor's entry in a header: no size is believed before it was compared with the bytes that are there."""

    dtype: np.dtype[Any]
    shape: tuple[int, ...]
    offsets: tuple[int, int]

    @property
    def bytes(self) -> int:
        return prod(self.shape) * self.dtype.itemsize

    @classmethod
    def from_json(cls, name: str, value: Any) -> "_Entry":
        entry = fields.record(value, name, ("dtype", "shape", "data_offsets"))
        sizes = fields.items(entry["shape"], f"shape of {name}")
        shape = tuple(fields.whole(size, f"a size of {name}") for size in sizes)
        offsets = fields.items(entry["data_offsets"], f"data_offsets of {name}")
        if len(offsets) != 2:
            raise fields.unexpected(offsets, f"data_offsets of {name}", "a begin and an end")
        begin, end = (fields.whole(offset, f"an offset of {name}", largest=fields.MOST_BYTES) for offset in offsets)
        return cls(_TYPES[fields.one_of(_TYPES, entry["dtype"], f"dtype of {name}")], shape, (begin, end))


def _unreadable(source: str, error: Exception) -> BundleError:
    return BundleError(f"{source}: not a readable safetensors file ({error}); it was truncated or damaged")


def check_shapes(found: Arrays, expected: dict[str, tuple[int, ...]], dtype: str, source: str) -> None:
    """Refuses tensors whose names, shapes or type are not the ones expected."""
    if set(found) != set(expected):
        raise BundleError(f"{source}: expected tensors {sorted(expected)}, found {sorted(found)}")
    for name, shape in expected.items():
        tensor = found[name]
        if tensor.shape != shape or tensor.dtype != np.dtype(dtype):
            found_here = f"{tensor.dtype}{list(tensor.shape)}"
            raise BundleError(f"{source}: {name} is {found_here}, expected {dtype}{list(shape)}")


def check_finite(found: Arrays, source: str) -> None:
    """Refuses float tensors with a number that is not finite: every answer of them would be none."""
    for name, tensor in found.items():
        if tensor.dtype.kind == "f" and not np.isfinite(tensor).all():
            raise BundleError(f"{source}: {name} has numbers that are not finite; it was damaged, or training diverged")


def check_masks(
    found: dict[str, NDArray[np.uint8]], expected: dict[str, tuple[int, ...]], layout: TaskLayout, source: str
) -> None:
    """Refuses packed masks that are not of the shapes expected, and masks with bits beyond their last entry."""
    check_shapes(dict(found), expected, "uint8", source)
    sizes = {tensor.name: tensor.size for tensor in layout.masked_tensors}
    for name, mask in found.items():
        if not padding_is_zero(mask, sizes[name]):
            reason = f"has bits beyond its {sizes[name]} entries; it is damaged"
            raise BundleError(f"{source}: the mask of {name} {reason}")


def group_of(tensors: Arrays, prefix: str) -> Arrays:
    """The tensors whose names start with ``prefix``, by the rest of their names."""
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
