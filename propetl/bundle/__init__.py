"""The bundle: what training leaves and export reads. Format: ``docs/bundle-format.md``. Loads no torch."""

from propetl.bundle.format import BackboneInfo, BundleInfo, TaskInfo
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
    "TaskInfo",
    "TaskPack",
    "add_task",
    "read_bundle",
    "read_pack",
    "write_bundle",
]
