"""A hash of all that decides what the tracer makes of a program, but for the values of its weights."""

import importlib.metadata
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any

from torch import Tensor, nn

import propetl
import propetl.export
import propetl.runtime
from propetl.export.program import BareProgram, Program
from propetl.files import json_bytes, sha256_of_bytes

_LIBRARIES = ("torch", "transformers", "onnxscript", "onnx_ir", "onnx")

# The places of packages: in a checkout the last two stand behind links, which a search does not follow.
_PACKAGES = (propetl, propetl.export, propetl.runtime)

_SIMPLE = (str, int, float, bool, tuple, list, type(None))

# Attributes of modules that no trace reads: it sets the first, and the second is where a model was loaded from.
_UNREAD = ("training", "name_or_path")

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

    It takes in the code: of the backbone's modules what they print, their plain attributes and which hooks they have,
    its configuration and family, the prototype's configuration, the versions of the libraries and the sources of this
    package. Weights count by name, shape and dtype, and by which of them are one tensor: a tracer sees no values, so
    two programs with one key have one graph, unless :func:`propetl.export.foreign_code.has_foreign_code` of either.

    Args:
        program: the function.
        example: what else decides, such as the inputs and the opset; its ``repr`` is taken.
    """
    model = program.model
    configuration = model.network.config.to_dict()
    configuration.pop("_name_or_path", None)  # where it was loaded from
    modules = [repr(model.network), list(_hooks(model.network)), list(_attributes(model.network))]
    backbone = [*modules, repr(configuration), repr(model.backbone.family)]
    method = [repr(model.config), model.head_kind, model.merged, model.network.config._attn_implementation]
    own = [type(program).__name__, repr(_settings(program)), repr(example), _described(weights_of(program))]
    return sha256_of_bytes(json_bytes([own, backbone, method, _versions(), _sources()]))


def _settings(program: nn.Module) -> dict[str, Any]:
    """Attributes of one module that are no modules and no tensors."""
    held = sorted(vars(program).items())
    return {name: value for name, value in held if isinstance(value, _SIMPLE) and name not in _UNREAD}


def _attributes(network: nn.Module) -> Iterator[str]:
    """Numbers that modules compute with, such as a scale: most of them are printed nowhere."""
    return (f"{name}: {_settings(module)}" for name, module in network.named_modules())


def _described(weights: dict[str, Tensor]) -> list[Any]:
    """Each with the first name of its tensor: of tied weights a graph has one, which stands for all of them."""
    first: dict[Any, str] = {}
    return [
        (name, str(value.dtype), list(value.shape), first.setdefault(_memory(value), name))
        for name, value in weights.items()
    ]


def _memory(value: Tensor) -> tuple[Any, ...]:
    return value.data_ptr(), value.dtype, value.shape, value.stride()


def _hooks(network: nn.Module) -> Iterator[str]:
    for name, module in network.named_modules():
        hooks = [*module._forward_pre_hooks.values(), *module._forward_hooks.values()]
        yield from (f"{name}: {getattr(hook, '__qualname__', type(hook).__qualname__)}" for hook in hooks)


def _versions() -> list[str]:
    return [propetl.__version__] + [importlib.metadata.version(library) for library in _LIBRARIES]


@cache
def _sources() -> str:
    """Of this package: who works on it changes it without its version."""
    return sha256_of_bytes(b"".join(sha256_of_bytes(file.read_bytes()).encode() for file in _source_files()))


def _source_files() -> list[Path]:
    roots = [Path(root) for package in _PACKAGES for root in package.__path__]
    return sorted({file for root in roots for file in root.rglob("*.py")})
