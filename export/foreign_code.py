"""Whether a program runs code that no key takes in: a class, hook or function from outside of the known packages."""

from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

from torch import nn
from transformers.modeling_utils import ALL_ATTENTION_FUNCTIONS

from propetl.model import ProPETLModel

# A key holds the versions of the first two, and the sources of the third.
_KNOWN = ("torch", "transformers", "propetl")


def has_foreign_code(model: ProPETLModel) -> bool:
    """Whether tracing the backbone of ``model`` may run other code than that of torch, transformers and this package.

    Such code may hold anything, and may change without a version.
    """
    return any(_package(code) not in _KNOWN for code in _code_of(model))


def _code_of(model: ProPETLModel) -> Iterator[Any]:
    yield from (type(model.backbone.family), type(model.config.specification))
    yield from _attention(model.network.config._attn_implementation)
    for module in model.network.modules():
        yield from (kind for kind in type(module).__mro__ if kind is not object)
        yield from module._forward_pre_hooks.values()
        yield from module._forward_hooks.values()
        yield from (value for value in vars(module).values() if _is_function(value))


def _attention(name: str | None) -> Iterator[Callable[..., Any]]:
    """The function that is registered under ``name``, where one is: anybody may replace it."""
    if name in ALL_ATTENTION_FUNCTIONS:
        yield ALL_ATTENTION_FUNCTIONS[name]


def _is_function(value: object) -> bool:
    """Whether a module's attribute is code of its own, such as a ``forward`` that replaces the class's."""
    return callable(value) and not isinstance(value, nn.Module | type)


def _package(code: Any) -> str:
    """The top package of a class or function, or of an object's class."""
    function = code.func if isinstance(code, partial) else code
    return str(getattr(function, "__module__", None) or "").partition(".")[0]
