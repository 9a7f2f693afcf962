"""ProPETL: one shared prototype per backbone, one binary mask per layer and task.

Importing this package imports nothing else: its names are looked up on first use. Training needs the extra ``train``,
the compiler ``export``, and a device only :class:`Session` with one engine extra such as ``cpu``. It does turn off the
telemetry of the libraries that have one, through environment variables. What is not in ``__all__`` may change.
"""

import os
from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propetl.attached import attach
    from propetl.bundle.reader import Bundle
    from propetl.families import Attention, Family, Projection, Stack, SubLayer, register_family
    from propetl.runtime.session import Session
    from propetl.training.config import TrainConfig
    from propetl.training.config_file import load_config
    from propetl.training.run import train

__version__ = "0.1.0"

__all__ = [
    "Attention",
    "Bundle",
    "Family",
    "Projection",
    "Session",
    "Stack",
    "SubLayer",
    "TrainConfig",
    "attach",
    "load_config",
    "register_family",
    "train",
]

_NAMES = {
    "attached": ("attach",),
    "bundle.reader": ("Bundle",),
    "families": ("Attention", "Family", "Projection", "Stack", "SubLayer", "register_family"),
    "runtime.session": ("Session",),
    "training.config": ("TrainConfig",),
    "training.config_file": ("load_config",),
    "training.run": ("train",),
}
_HOME = {name: f"propetl.{module}" for module, names in _NAMES.items() for name in names}

# ONNX Runtime and huggingface_hub read these once, when they are loaded, be it by torch or onnxscript. Everything of
# ours that loads them runs these lines first, and so do the processes that we start. Who set one keeps his choice.
for _telemetry in ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY"):
    os.environ.setdefault(_telemetry, "1")


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
