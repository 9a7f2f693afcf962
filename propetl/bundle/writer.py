"""Writing a bundle whole, and adding one task to a bundle that is there."""

import dataclasses
from collections.abc import Iterable
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import (
    MANIFEST,
    PROTOTYPE_FILE,
    TOKENIZER_FOLDER,
    BackboneInfo,
    BundleInfo,
    pack_path,
    samples_path,
)
from propetl.bundle.held import held
from propetl.bundle.pack import TaskPack
from propetl.bundle.prototype import SharedMasks, check_prototype, prototype_bytes
from propetl.bundle.reader import Bundle, read_bundle, read_info
from propetl.bundle.samples import sample_bytes
from propetl.bundle.tensors import Arrays
from propetl.bundle.tokenizer_files import with_max_length
from propetl.errors import TaskError
from propetl.files import (
    folder_records,
    json_bytes,
    record_of_bytes,
    sha256_of_bytes,
    write_atomically,
)
from propetl.prototypes.spec import PrototypeConfig
from propetl.sealed import FILES, sealed
from propetl.staging import staged_folder
from propetl.task import TaskSpec


@dataclass(frozen=True)
class TaskContents:
    """What training knows of one task.

    Attributes:
        info: problem, labels, columns, metrics, scores.
        masks: its own packed masks, uint8 ``[slots, bytes]`` or ``[bytes]``.
        weights: float weights of an unshared task.
        head: head tensors.
        samples: a few real rows as token ids by model input, int ``[rows, sequence]``.
    """

    info: TaskSpec
    masks: dict[str, NDArray[np.uint8]]
    weights: dict[str, NDArray[np.float32]]
    head: dict[str, NDArray[np.float32]]
    samples: Arrays


@dataclass(frozen=True)
class BundleContents:
    """Everything that a bundle is written from; the files of its tokenizer come to say ``max_length``."""

    backbone: BackboneInfo
    config: PrototypeConfig
    head: str
    max_length: int
    prototype: dict[str, NDArray[np.float32]]
    tasks: dict[str, TaskContents]
    tokenizer: dict[str, bytes]
    created_by: str
    shared_masks: SharedMasks = field(default_factory=SharedMasks)


def write_bundle(path: Path, contents: BundleContents, *, overwrite: bool = False) -> BundleInfo:
    """Writes ``contents`` to the folder ``path``, which appears whole or not at all."""
    with staged_folder(path, overwrite=overwrite, marker=MANIFEST) as staging:
        (staging / "tasks").mkdir()
        (staging / TOKENIZER_FOLDER).mkdir()
        for name, content in _files_of(contents).items():
            (staging / name).write_bytes(content)
        info = _info_of(contents, staging)
        (staging / MANIFEST).write_bytes(json_bytes(sealed(info.to_json(), FILES)))
        read_bundle(staging)
    return info


def add_task(path: Path, task: str, contents: TaskContents, *, again: bool = False) -> BundleInfo:
    """Adds one task to the bundle at ``path``.

    The new files are written first and ``bundle.json`` last, in one rename, so that a kill in between leaves
    the old bundle (and at most two files that no manifest names). No other file changes. Callers at the same
    time take turns.

    Args:
        path: folder of the bundle.
        task: name of the new task.
        contents: what it consists of.
        again: a task of this name with just these contents is left as it is, as when a run that was killed
            after adding it goes on.

    Raises:
        TaskError: a task of this name is there already.
    """
    with held(path):
        bundle = read_bundle(path)
        if task not in bundle.packs:
            return _add_task(bundle, task, contents)
        if again and _holds(bundle, task, contents):
            return bundle.info
        other = ", with other contents" if again else ""
        raise TaskError(f"task {task!r} is in {path} already{other}; nothing was changed: choose another name")


def _holds(bundle: Bundle, task: str, contents: TaskContents) -> bool:
    pack = bundle.packs[task]
    pairs = ((pack.masks, contents.masks), (pack.weights, contents.weights), (pack.head, contents.head))
    return bundle.info.tasks[task] == contents.info and all(_equal(dict(there), dict(here)) for there, here in pairs)


def _equal(left: Arrays, right: Arrays) -> bool:
    return left.keys() == right.keys() and all(np.array_equal(left[name], right[name]) for name in left)


def _add_task(bundle: Bundle, task: str, contents: TaskContents) -> BundleInfo:
    path = bundle.path
    files = _task_files(task, contents, bundle.shared_masks, bundle.prototype_sha256, bundle.info)
    records = {name: record_of_bytes(content) for name, content in files.items()}
    info = dataclasses.replace(
        bundle.info, tasks={**bundle.info.tasks, task: contents.info}, files={**bundle.info.files, **records}
    )
    try:
        for name, content in files.items():
            write_atomically(path / name, content)
        write_atomically(path / MANIFEST, json_bytes(sealed(info.to_json(), FILES)))
    except BaseException:
        _remove_unnamed(path, files)
        raise
    return info


def _remove_unnamed(path: Path, names: Iterable[str]) -> None:
    """Removes files of a task that did not get into the manifest."""
    named = read_info(path).files
    for name in names:
        if name not in named:
            (path / name).unlink(missing_ok=True)


def _files_of(contents: BundleContents) -> dict[str, bytes]:
    info = BundleInfo(contents.backbone, contents.config, contents.head, contents.max_length, {}, {}, "")
    check_prototype(contents.prototype, contents.shared_masks, info.layout, "prototype")
    prototype = prototype_bytes(contents.prototype, contents.shared_masks)
    files = {PROTOTYPE_FILE: prototype}
    for task, task_contents in contents.tasks.items():
        files |= _task_files(task, task_contents, contents.shared_masks, sha256_of_bytes(prototype), info)
    tokenizer = with_max_length(contents.tokenizer, contents.max_length)
    return files | {f"{TOKENIZER_FOLDER}/{name}": content for name, content in tokenizer.items()}


def _task_files(
    task: str, contents: TaskContents, shared: SharedMasks, prototype_sha256: str, info: BundleInfo
) -> dict[str, bytes]:
    info.prototype.check_language(task, contents.info.language)
    pack = TaskPack(
        task=task,
        info=contents.info,
        prototype_sha256=prototype_sha256,
        backbone_fingerprint=info.backbone.fingerprint,
        masks=contents.masks,
        weights=contents.weights,
        head=contents.head,
        language_masks=shared.of_language(contents.info.language),
    )
    pack.check(info.layout, f"task {task}")
    pack.check_head_kind(info.head, f"task {task}")
    return {pack_path(task): pack.to_bytes(), samples_path(task): sample_bytes(task, contents.samples)}


def _info_of(contents: BundleContents, staging: Path) -> BundleInfo:
    return BundleInfo(
        backbone=contents.backbone,
        prototype=contents.config,
        head=contents.head,
        max_length=contents.max_length,
        tasks={name: task.info for name, task in contents.tasks.items()},
        files=folder_records(staging),
        created_by=contents.created_by,
    )
