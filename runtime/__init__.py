"""Running artifacts on a device: numpy and one engine, no PyTorch.

``Session`` is looked up on first use, so importing this package loads no engine.
"""

from importlib import import_module
from typing import Any

# The folder stands at the top of the repository, where a bare import would find it under its own name.
if __name__ != "propetl.runtime":
    raise ImportError(f"import 'propetl.runtime', not {__name__!r}")

_HOME = {"Session": "propetl.runtime.session", "Prediction": "propetl.runtime.prediction"}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted([*globals(), *_HOME])
