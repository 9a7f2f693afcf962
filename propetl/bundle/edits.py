"""Changes to a bundle that is there: a task leaves it, gets another name, or is replaced by a newer one.

The folder is copied beside its place, changed there and exchanged in one step: a kill leaves the old bundle or the new
one. A reader during the exchange may find a file of the other one; hashes tell, and it gets an error, never a mixture.
"""

import dataclasses
import os
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path

from propetl.bundle.format import MANIFEST, BundleInfo, pack_path, samples_path
from propetl.bundle.held import held
from propetl.bundle.pack import TaskPack, check_belongs
from propetl.bundle.reader import Bundle, read_bundle
from propetl.bundle.samples import sample_bytes
from propetl.bundle.tensors import Arrays
from propetl.errors import TaskError
from propetl.files import json_bytes, record_of_bytes, write_atomically
from propetl.sealed import FILES, sealed
from propetl.staging import staged_folder
from propetl.task import TaskSpec, check_task_name

Contents = Mapping[str, tuple[TaskPack, Arrays]]
"""Pack and sample rows of each task that a change writes, by its name."""


def remove_task(path: Path, task: str) -> Bundle:
    """Removes ``task`` and its files from the bundle at ``path``; returns the bundle as it is then.

    Raises:
        TaskError: there is no such task, or it is the only one.
    """

    def without(bundle: Bundle) -> tuple[dict[str, TaskSpec], Contents]:
        bundle.pack(task)
        if len(bundle.packs) == 1:
            raise TaskError(f"task {task!r} is the only one in {path}: remove the folder, or add another task first")
        return {name: info for name, info in bundle.info.tasks.items() if name != task}, {}

    return _changed(path, without)


def rename_task(path: Path, task: str, name: str) -> Bundle:
    """Gives ``task`` of the bundle at ``path`` another name; nothing else of it changes.

    Raises:
        TaskError: there is no such task, or the new name is taken or cannot be a task's.
    """

    def renamed(bundle: Bundle) -> tuple[dict[str, TaskSpec], Contents]:
        pack = _called(bundle.pack(task), check_task_name(name))
        if name in bundle.packs:
            raise TaskError(f"task {name!r} is in {path} already; nothing was changed: choose another name")
        given = dataclasses.replace(bundle.info.tasks[task], name=name)
        infos = [given if there == task else info for there, info in bundle.info.tasks.items()]
        return {info.name: info for info in infos}, {name: (pack, bundle.samples(task))}

    return _changed(path, renamed)


def replace_task(path: Path, task: str, source: Bundle, of: str | None = None) -> Bundle:
    """Puts a newer ``task`` in the place of the one in the bundle at ``path``.

    Args:
        path: folder of the bundle.
        task: which of its tasks.
        source: the bundle that has the newer one, over the same prototype: a copy that it was trained in with
            ``--add-to``, or this bundle itself.
        of: the newer one's name in ``source``; None where it is the same.

    Raises:
        TaskError: there is no such task, or it was trained over another prototype or backbone.
    """

    def replaced(bundle: Bundle) -> tuple[dict[str, TaskSpec], Contents]:
        bundle.pack(task)
        newer = of or task
        pack = _called(source.pack(newer), task)
        fingerprint = bundle.info.backbone.fingerprint
        check_belongs(pack, bundle.prototype_sha256, fingerprint, f"{source.path}, task {newer}")
        given = dataclasses.replace(source.info.tasks[newer], name=task)
        return {**bundle.info.tasks, task: given}, {task: (pack, source.samples(newer))}

    return _changed(path, replaced)


def _called(pack: TaskPack, name: str) -> TaskPack:
    return dataclasses.replace(pack, task=name, info=dataclasses.replace(pack.info, name=name))


def _changed(path: Path, change: Callable[[Bundle], tuple[dict[str, TaskSpec], Contents]]) -> Bundle:
    """Writes what ``change`` makes of the bundle; tasks that it leaves out lose their files."""
    with held(path):
        bundle = read_bundle(path)
        tasks, contents = change(bundle)
        with staged_folder(path, overwrite=True, marker=MANIFEST) as staging:
            shutil.copytree(path, staging, symlinks=True, dirs_exist_ok=True, copy_function=_linked)
            written = {name: content for task, one in contents.items() for name, content in _files(task, *one).items()}
            for name, content in written.items():
                write_atomically(staging / name, content)  # a file that is linked here is another one's as well
            left_out = bundle.packs.keys() - tasks.keys()
            gone = [name for task in left_out for name in (pack_path(task), samples_path(task))]
            for name in gone:
                (staging / name).unlink()
            write_atomically(staging / MANIFEST, _manifest(bundle.info, tasks, written, gone))
            read_bundle(staging)
    return read_bundle(path)


def _manifest(info: BundleInfo, tasks: dict[str, TaskSpec], written: Mapping[str, bytes], gone: list[str]) -> bytes:
    records = {name: record for name, record in info.files.items() if name not in gone}
    records |= {name: record_of_bytes(content) for name, content in written.items()}
    return json_bytes(sealed(dataclasses.replace(info, tasks=tasks, files=records).to_json(), FILES))


def _files(task: str, pack: TaskPack, samples: Arrays) -> dict[str, bytes]:
    return {pack_path(task): pack.to_bytes(), samples_path(task): sample_bytes(task, samples)}


def _linked(source: str, target: str) -> None:
    """A second name for the same file, which costs no bytes; a copy where the file system has no such thing."""
    try:
        os.link(source, target)
    except OSError:
        shutil.copy2(source, target)
