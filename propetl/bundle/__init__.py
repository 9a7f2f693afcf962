"""The bundle: what training leaves and export reads. Format: ``docs/bundle-format.md``. Loads no torch.

Names are looked up on first use: a device, which reads task packs alone, loads neither reader nor writer.
"""

from importlib import import_module
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from propetl.bundle.format import BackboneInfo, BundleInfo
    from propetl.bundle.pack import TaskPack, read_pack
    from propetl.bundle.prototype import SharedMasks
    from propetl.bundle.reader import Bundle, read_bundle
    from propetl.bundle.writer import BundleContents, TaskContents, add_task, write_bundle

__all__ = [
    "BackboneInfo",
    "Bundle",
    "BundleContents",
    "BundleInfo",
    "SharedMasks",
    "TaskContents",
    "TaskPack",
    "add_task",
    "read_bundle",
    "read_pack",
    "write_bundle",
]

_NAMES = {
    "format": ("BackboneInfo", "BundleInfo"),
    "pack": ("TaskPack", "read_pack"),
    "prototype": ("SharedMasks",),
    "reader": ("Bundle", "read_bundle"),
    "writer": ("BundleContents", "TaskContents", "add_task", "write_bundle"),
}
_HOME = {name: f"propetl.bundle.{module}" for module, names in _NAMES.items() for name in names}


def __getattr__(name: str) -> Any:
    if name not in _HOME:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(_HOME[name]), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOME})
