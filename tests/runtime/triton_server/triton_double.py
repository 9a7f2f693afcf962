"""Stands in for Triton's Python backend: its module, and a request."""

import importlib.util
import sys
from types import SimpleNamespace

import numpy as np


class Tensor:
    """As Triton's: a name and an array."""

    def __init__(self, name, array):
        self.name, self._array = name, array

    def as_numpy(self):
        return self._array


class Response:
    """As Triton's: tensors, or an error."""

    def __init__(self, output_tensors=(), error=None):
        self.tensors = {tensor.name: tensor.as_numpy() for tensor in output_tensors}
        self.error = error


def install(monkeypatch):
    """Makes ``import triton_python_backend_utils`` work."""
    utils = SimpleNamespace(
        Tensor=Tensor,
        InferenceResponse=Response,
        TritonError=str,
        get_input_tensor_by_name=lambda request, name: request[name],
    )
    monkeypatch.setitem(sys.modules, "triton_python_backend_utils", utils)


def request(**arrays):
    """A request with these inputs."""
    return {name: Tensor(name, array) for name, array in arrays.items()}


def strings(rows):
    """Strings as Triton hands them over: bytes."""
    parts = [[part if isinstance(part, bytes) else part.encode() for part in row] for row in rows]
    return np.array(parts, dtype=object)


def model_of(repository, name):
    """Loads ``model.py`` of a served model as Triton does, and initialises it."""
    spec = importlib.util.spec_from_file_location("model", repository / name / "1" / "model.py")
    assert spec is not None and spec.loader is not None
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    model = module.TritonPythonModel()
    model.initialize({"model_repository": str(repository / name), "model_version": "1", "model_name": name})
    return model
