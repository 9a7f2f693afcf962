"""A hash of all that decides what the tracer makes of a program, but for the values of its weights."""

import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import propetl
import propetl.export
from propetl.export.program import BareProgram, Program
from propetl.files import json_bytes, sha256_of_bytes

_LIBRARIES = ("torch", "transformers", "onnxscript", "onnx_ir")

# Tasks come into a program as arguments, and the prototype under a name of its own: how many tasks the model has, and
# what they are called, decides nothing.
_UNUSED = ("model.parts.", "model.heads.", "model.prototype.", "model.shared_masks.")


def weights_of(program: nn.Module) -> dict[str, Tensor]:
    """Parameters and buffers that a program computes with, by name; what has two names stands under both."""
    parameters = program.named_parameters(remove_duplicate=False)
    buffers = program.named_buffers(remove_duplicate=False)
    return {name: value for name, value in [*parameters, *buffers] if not name.startswith(_UNUSED)}


def program_key(program: Program | BareProgram, example: Any) -> str:
    """SHA-256 in hexadecimal digits.

    It takes in the code: of the backbone's modules what they print and which hooks they have, its configuration and
    family, the prototype's configuration, the versions of the libraries and the sources of this package. Weights count
    by name, shape and dtype: a tracer sees no values, so two programs with one key have one graph.

    Args:
        program: the function.
        example: what else decides, such as the inputs and the opset; its ``repr`` is taken.
    """
    model = program.model
    configuration = model.network.config.to_dict()
    configuration.pop("_name_or_path", None)  # where it was loaded from
    weights = [(name, str(value.dtype), list(value.shape)) for name, value in weights_of(program).items()]
    backbone = [repr(model.network), list(_hooks(model.network)), repr(configuration), repr(model.backbone.family)]
    method = [repr(model.config), model.head_kind, model.merged, model.network.config._attn_implementation]
    own = [type(program).__name__, repr(_settings(program)), repr(example)]
    return sha256_of_bytes(json_bytes([own, backbone, method, weights, _versions(), _sources()]))


def _settings(program: nn.Module) -> dict[str, Any]:
    """Attributes of the program itself that are no modules and no tensors."""
    simple = (str, int, float, bool, tuple)
    return {name: value for name, value in sorted(vars(program).items()) if isinstance(value, simple)}


def _hooks(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules():
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        yield from (f"{name}: {getattr(hook, '__qualname__', type(hook).__qualname__)}" for hook in hooks)


def _versions() -> list[str]:
    return [importlib.metadata.version(library) for library in _LIBRARIES]


@cache
def _sources() -> str:
    """Of this package: who works on it changes it without its version."""
    files = {file for package in (propetl, propetl.export) for root in package.__path__ for file in _modules(root)}
    return sha256_of_bytes(b"".join(sha256_of_bytes(file.read_bytes()).encode() for file in sorted(files)))


def _modules(root: str) -> Iterator[Path]:
    return Path(root).rglob("*.py")
