"""One request of Triton at a time, in and out; an error of one request does not touch its neighbours."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ConfigurationError, ProPETLError

Answer = Mapping[str, NDArray[Any]]


def respond(requests: list[Any], answer: Callable[[Any], Answer]) -> list[Any]:
    """A response for each request: the tensors that ``answer`` gives, or the line of its error."""
    triton = _triton()
    return [_response(triton, request, answer) for request in requests]


def _response(triton: Any, request: Any, answer: Callable[[Any], Answer]) -> Any:
    try:
        tensors = [triton.Tensor(name, array) for name, array in answer(request).items()]
    except ProPETLError as error:
        return triton.InferenceResponse(error=triton.TritonError(str(error)))
    return triton.InferenceResponse(output_tensors=tensors)


def tensor_of(request: Any, name: str) -> NDArray[Any]:
    """An input of ``request``."""
    array: NDArray[Any] = _triton().get_input_tensor_by_name(request, name).as_numpy()
    return array


def strings_of(request: Any, name: str) -> list[list[str]]:
    """An input of strings ``[rows, n]``.

    Raises:
        ConfigurationError: bytes that are not UTF-8: replaced by a sign, they would be another text.
    """
    return [[_text(item, name, row) for item in items] for row, items in enumerate(tensor_of(request, name))]


def _text(item: bytes | str, name: str, row: int) -> str:
    try:
        return item.decode("utf-8") if isinstance(item, bytes) else item
    except UnicodeDecodeError as error:
        found = f"byte 0x{error.object[error.start]:02x} at {error.start}"
        raise ConfigurationError(f"row {row}: {name} is not UTF-8 ({found}); send text as UTF-8") from error


def string_tensor(texts: list[str]) -> NDArray[np.object_]:
    """Strings ``[rows, 1]`` as Triton takes them: UTF-8."""
    return np.array([[text.encode()] for text in texts], dtype=np.object_)


def _triton() -> Any:
    return import_module("triton_python_backend_utils")  # there inside Triton's Python backend only
