"""Reading a bundle: nothing is used before its hash and its shapes were checked."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.described import check_described_as
from propetl.bundle.format import (
    FORMAT,
    MANIFEST,
    PROTOTYPE_FILE,
    TOKENIZER_FOLDER,
    VERSION,
    BundleInfo,
    check_format,
    pack_path,
    samples_path,
)
from propetl.bundle.pack import TaskPack, check_belongs, read_pack
from propetl.bundle.prototype import SharedMasks, read_prototype
from propetl.bundle.samples import read_samples
from propetl.bundle.tensors import Arrays
from propetl.errors import BundleError, TaskError
from propetl.files import read_json, sha256_of_file, verify_files
from propetl.sealed import FILES, unsealed


@dataclass(frozen=True)
class Bundle:
    """A bundle in memory.

    Attributes:
        path: its folder.
        info: what ``bundle.json`` says.
        sha256: of ``bundle.json``, which names every other file by hash.
        prototype_sha256: of ``prototype.safetensors``.
        prototype: float32 tensors by name; empty for unshared methods.
        packs: task packs by task.
        shared_masks: of the layers and of the languages, which belong to the prototype.
    """

    path: Path
    info: BundleInfo
    sha256: str
    prototype_sha256: str
    prototype: dict[str, NDArray[np.float32]]
    packs: dict[str, TaskPack]
    shared_masks: SharedMasks

    @classmethod
    def load(cls, path: Path | str) -> "Bundle":
        """Reads and checks the bundle in folder ``path``; see :func:`read_bundle`."""
        return read_bundle(Path(path))

    @property
    def tasks(self) -> tuple[str, ...]:
        """Names of its tasks."""
        return tuple(self.info.tasks)

    @property
    def tokenizer_folder(self) -> Path:
        """Folder with ``tokenizer.json`` and its configuration."""
        return self.path / TOKENIZER_FOLDER

    def pack(self, task: str) -> TaskPack:
        """The pack of ``task``; an unknown one is a :class:`TaskError` that names those there are."""
        if task not in self.packs:
            raise TaskError(f"task {task!r} is not in {self.path}; it has {', '.join(sorted(self.packs)) or 'none'}")
        return self.packs[task]

    def samples(self, task: str) -> Arrays:
        """A few real rows of ``task`` as int32 token ids ``[rows, sequence]``, by model input."""
        self.pack(task)
        return read_samples(self.path / samples_path(task))

    def remove_task(self, task: str) -> "Bundle":
        """The bundle without ``task``, on disk, too; see :func:`propetl.bundle.edits.remove_task`."""
        from propetl.bundle import edits

        return edits.remove_task(self.path, task)

    def rename_task(self, task: str, name: str) -> "Bundle":
        """The bundle with ``task`` under another name, on disk, too; see :func:`propetl.bundle.edits.rename_task`."""
        from propetl.bundle import edits

        return edits.rename_task(self.path, task, name)

    def replace_task(self, task: str, source: "Bundle", of: str | None = None) -> "Bundle":
        """The bundle with a newer ``task``, on disk, too; see :func:`propetl.bundle.edits.replace_task`."""
        from propetl.bundle import edits

        return edits.replace_task(self.path, task, source, of)

    def export(self, output: Path | str, **options: Any) -> Path:
        """Compiles it to an artifact in the folder ``output``, and returns that folder; see ``export_bundle``.

        Args:
            output: folder to write.
            options: fields of :class:`propetl.export.options.ExportOptions`, such as ``forms=("switchable",)``.
        """
        from propetl.export.options import ExportOptions
        from propetl.export.writer import export_bundle

        export_bundle(self.path, Path(output), ExportOptions(**options))
        return Path(output)


def read_bundle(path: Path) -> Bundle:
    """Reads and checks the bundle in folder ``path``.

    Raises:
        BundleError: a file is missing, damaged or does not fit, or the version is not known.
    """
    info = read_info(path)
    verify_files(path, info.files, BundleError)
    prototype, shared = read_prototype(path / PROTOTYPE_FILE, info.layout)
    prototype_sha256 = info.files[PROTOTYPE_FILE]["sha256"]
    packs = {task: _checked_pack(path, task, info, prototype_sha256, shared) for task in info.tasks}
    for task in info.tasks:
        read_samples(path / samples_path(task))
    return Bundle(path, info, sha256_of_file(path / MANIFEST), prototype_sha256, prototype, packs, shared)


def read_info(path: Path) -> BundleInfo:
    """``bundle.json`` of the bundle in folder ``path``; the files it names are not read."""
    manifest = path / MANIFEST
    value = read_json(manifest, "bundle", BundleError)
    check_format(value, FORMAT, VERSION, str(manifest), BundleError)
    info = BundleInfo.from_json(unsealed(value, str(manifest), BundleError, FILES), str(manifest))
    for needed in (PROTOTYPE_FILE, *map(pack_path, info.tasks), *map(samples_path, info.tasks)):
        if needed not in info.files:
            raise BundleError(f"{manifest}: {needed} is not among its files; restore it from its source")
    return info


def _checked_pack(path: Path, task: str, info: BundleInfo, prototype_sha256: str, shared: SharedMasks) -> TaskPack:
    source = path / pack_path(task)
    pack = read_pack(source)
    check_described_as(pack.said, task, info.tasks[task], str(source), BundleError)
    check_belongs(pack, prototype_sha256, info.backbone.fingerprint, str(source))
    pack.check(info.layout, str(source))
    pack.check_head_kind(info.head, str(source))
    _check_language_masks(pack, shared, str(source))
    return pack


def _check_language_masks(pack: TaskPack, shared: SharedMasks, source: str) -> None:
    """A pack repeats the masks of its language."""
    for name, mask in shared.of_language(pack.info.language).items():
        if not np.array_equal(pack.language_masks[name], mask):
            found = f"its mask of language {pack.info.language} over {name} is not the one of {PROTOTYPE_FILE}"
            raise BundleError(f"{source}: {found}; restore the bundle from its source")
