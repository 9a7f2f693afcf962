"""Reading and checking safetensors files without trusting them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from safetensors import SafetensorError
from safetensors.numpy import load, save

from propetl.bits import padding_is_zero
from propetl.bundle.format import METADATA_KEY, metadata
from propetl.errors import BundleError
from propetl.prototypes.spec import TaskLayout

Arrays = dict[str, NDArray[Any]]

_LENGTH_BYTES = 8  # a file begins with the length of its header


def tensor_bytes(tensors: Arrays, description: dict[str, Any]) -> bytes:
    """One safetensors file: ``tensors`` sorted by name, ``description`` as its metadata."""
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
        raise _unreadable(path, error) from error
    return tensors_of(content, path)


def tensors_of(content: bytes, source: Path) -> tuple[Arrays, dict[str, Any]]:
    """:func:`read_tensors` for the content of file ``source``, which was read already."""
    try:
        tensors = load(content)  # which checks the header that is read again here
        header = json.loads(content[_LENGTH_BYTES : _LENGTH_BYTES + int.from_bytes(content[:_LENGTH_BYTES], "little")])
        return tensors, json.loads(header.get("__metadata__", {}).get(METADATA_KEY, "{}"))
    except (SafetensorError, json.JSONDecodeError, RecursionError, KeyError, TypeError, ValueError) as error:
        raise _unreadable(source, error) from error


def _unreadable(source: Path, error: Exception) -> BundleError:
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
