"""One request of Triton at a time, in and out; an error of one request does not touch its neighbours."""

from collections.abc import Callable, Mapping
from importlib import import_module
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ProPETLError

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
    """An input of strings ``[rows, n]``; what is not UTF-8 becomes a replacement sign."""
    return [[_text(item) for item in row] for row in tensor_of(request, name)]


def _text(item: bytes | str) -> str:
    return item.decode("utf-8", errors="replace") if isinstance(item, bytes) else item


def string_tensor(texts: list[str]) -> NDArray[np.object_]:
    """Strings ``[rows, 1]`` as Triton takes them: UTF-8."""
    return np.array([[text.encode()] for text in texts], dtype=np.object_)


def _triton() -> Any:
    return import_module("triton_python_backend_utils")  # there inside Triton's Python backend only
