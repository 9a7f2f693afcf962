"""Reading an artifact: nothing is used before its hash and its signature were checked."""

import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from propetl.bundle.described import check_described_as, read_description
from propetl.bundle.format import LINEAR, PROTOTYPE_FILE, check_format, pack_path
from propetl.bundle.pack import TaskPack, check_belongs, parse_pack
from propetl.errors import ArtifactError, TaskError
from propetl.files import check_paths_inside, read_json, verify_bytes, verify_files, whole_file
from propetl.runtime.external_data import check_external_data
from propetl.runtime.held_files import HeldFiles
from propetl.runtime.manifest import (
    BACKBONE_FILE,
    FORMAT,
    GOLDEN_FILE,
    MANIFEST,
    PRECISIONS,
    TOKENIZER,
    TOKENIZER_FILE,
    TUNED,
    VERSION,
    ArtifactTask,
    FormInfo,
    GraphInfo,
    Manifest,
    TensorSignature,
)
from propetl.runtime.operators import check_operators
from propetl.runtime.signatures import BARE, FOLDED, check_forms
from propetl.sealed import FILES, unsealed
from propetl.task import TaskSpec

# What few artifacts have, or what is not asked of a session, is imported where it is: the first answer of a process
# waits for every import.
if TYPE_CHECKING:
    from propetl.bundle.reader import Bundle
    from propetl.runtime.golden import Golden

__all__ = [
    "BACKBONE_FILE",
    "GOLDEN_FILE",
    "MANIFEST",
    "TOKENIZER_FILE",
    "Artifact",
    "ArtifactTask",
    "FormInfo",
    "GraphInfo",
    "Manifest",
    "TensorSignature",
    "read_artifact",
    "read_manifest",
    "verify_artifact_files",
]


@dataclass(frozen=True)
class Artifact:
    """An artifact whose manifest was checked.

    Attributes:
        path: its folder, absolute and without links.
        manifest: what ``artifact.json`` says.
        hashing: whether graphs and task packs are hashed when they are read.
        held: what was hashed of the files that engines map.
    """

    path: Path
    manifest: Manifest
    hashing: bool = False
    held: HeldFiles = field(default_factory=HeldFiles, repr=False, compare=False)

    @property
    def forms(self) -> tuple[str, ...]:
        """Forms that a session can run; the bare backbone is a yardstick, not one of them."""
        return tuple(form for form in self.manifest.forms if form != BARE)

    def graph_bytes(self, path: str) -> bytes:
        """The ONNX file at ``path`` of the manifest; its weights stay in ``backbone.data``, and nowhere else.

        Raises:
            ArtifactError: it is missing or damaged, or takes weights from another file: none of those was hashed.
        """
        content = self.content(path)
        check_external_data(content, BACKBONE_FILE, os.path.join(self.path, path))
        return content

    def content(self, relative: str) -> bytes:
        """The bytes of a file of the manifest, hashed if that is asked for."""
        try:
            content = whole_file(os.path.join(self.path, relative))
        except FileNotFoundError as error:
            raise self._missing(relative) from error
        except OSError as error:
            raise ArtifactError(f"{self.path}: {relative} cannot be read ({error.strerror}); restore it") from error
        if self.hashing:
            verify_bytes(content, self.manifest.files[relative], self.path, relative, ArtifactError)
        return content

    def task(self, name: str) -> ArtifactTask:
        """The entry of task ``name``; an unknown one is a :class:`TaskError` that names those there are."""
        if name not in self.manifest.tasks:
            known = ", ".join(sorted(self.manifest.tasks)) or "none"
            raise TaskError(f"task {name!r} is not in {self.path}; it has {known}")
        return self.manifest.tasks[name]

    def pack(self, name: str) -> TaskPack:
        """The pack of task ``name``, checked against prototype, backbone and shapes."""
        relative = self.task(name).pack
        source = os.path.join(self.path, relative)
        pack = parse_pack(self.content(relative), source)
        check_described_as(pack.said, name, self.task(name).info, source, ArtifactError)
        self.check_pack(pack, source)
        return pack

    def checked_info(self, name: str) -> TaskSpec:
        """The manifest's entry of task ``name``, checked against its pack: for graphs that hold the pack's tensors.

        Raises:
            TaskError: there is no such task, or its pack belongs to another prototype or backbone.
            BundleError: the pack is damaged.
            ArtifactError: the pack says something else of the task.
        """
        info, relative = self.task(name).info, self.task(name).pack
        described = read_description(self.file(relative))
        source = os.path.join(self.path, relative)
        check_described_as(described, name, info, source, ArtifactError)
        check_belongs(described, self.manifest.prototype_sha256, self.manifest.backbone.fingerprint, source)
        return info

    def check_pack(self, pack: TaskPack, source: str) -> None:
        """Refuses a pack that belongs to another backbone, prototype or kind of head.

        Raises:
            TaskError: it belongs elsewhere.
            BundleError: its tensors do not have the shapes of this prototype.
        """
        manifest = self.manifest
        check_belongs(pack, manifest.prototype_sha256, manifest.backbone.fingerprint, source)
        wanted = pack.info.head_kind(manifest.head)
        if pack.head and pack.head_kind != wanted:
            raise TaskError(
                f"{source}: its head is of kind {pack.head_kind!r}, this artifact takes {wanted!r}; "
                "train the task with --add-to the bundle that was exported, whose kind of head it then has"
            )
        pack.check(manifest.layout, source)

    def check_addable(self, pack: TaskPack, source: str) -> None:
        """Refuses a pack that the graphs for any task cannot run.

        Raises:
            TaskError: it answers in another way than the graphs, or its head is of a kind that they do not take.
        """
        self.check_pack(pack, source)
        manifest = self.manifest
        if bool(pack.info.outputs) == (manifest.generation is not None):
            asked, here = ("with a head", "in text") if pack.info.outputs else ("in text", "with heads")
            raise TaskError(f"{source}: {pack.task!r} answers {asked}, and the graphs of {self.path} answer {here}")
        if len(pack.info.kind.axes) > len(manifest.axes):
            raise TaskError(
                f"{source}: task {pack.task!r} tags words, and no graph of {self.path} answers at every token; "
                f"{self._way_to_export(pack.task)}"
            )
        if pack.head and pack.head_kind != manifest.head_of_any:
            raise TaskError(
                f"{source}: its head is of kind {pack.head_kind!r}, and the graphs of {self.path}, whose tasks tag, "
                f"take {manifest.head_of_any!r}; {self._way_to_export(pack.task)}"
            )

    def _way_to_export(self, task: str) -> str:
        """How a task gets graphs that its kind of answer needs: one graph has heads of one kind."""
        if self.manifest.head == LINEAR:
            return f"export the bundle that has {task!r} again, with it"
        return f"export {task!r} by itself, with --task {task}, or with other tasks of its kind of head"

    def check_origin(self, bundle: "Bundle") -> None:
        """Refuses a bundle whose prototype or packs are not those in here; tasks added to it since do not matter.

        Raises:
            ArtifactError: naming what differs.
        """
        manifest = self.manifest
        here = {pack_path(task): manifest.files[entry.pack] for task, entry in manifest.tasks.items()}
        differing = [path for path, record in here.items() if bundle.info.files.get(path) != record]
        if manifest.prototype_sha256 != bundle.prototype_sha256:
            differing.insert(0, PROTOTYPE_FILE)
        if differing:
            raise ArtifactError(
                f"{self.path} was exported from another bundle than {bundle.path}: {', '.join(differing)} differ; "
                "export that one, or pass the one it came from"
            )

    @property
    def may_be_tuned(self) -> bool:
        """Whether there is a folder ``tuned/``: few artifacts have one, and the others load nothing that reads it."""
        return (self.path / TUNED).is_dir()

    def golden(self, task: str) -> "Golden":
        """Golden inputs and outputs of ``task``."""
        from propetl.runtime.golden import read_golden

        return read_golden(self.file(self.manifest.golden), task, self.manifest.token_inputs)

    @property
    def tokenizer_path(self) -> Path:
        """Where ``tokenizer.json`` stands."""
        return self.file(TOKENIZER_FILE)

    def file(self, relative: str) -> Path:
        """Where a file of the manifest stands; :class:`ArtifactError` if it is gone."""
        path = self.path / relative
        if not path.is_file():
            raise self._missing(relative)
        return path

    def _missing(self, relative: str) -> ArtifactError:
        return ArtifactError(f"{self.path}: {relative} is missing; restore the folder from its source")


def read_artifact(path: Path | str, verify: bool = True) -> Artifact:
    """Reads and checks the artifact in folder ``path``.

    Args:
        path: the folder.
        verify: hash every file (0.1 to 0.3 s for a small backbone). Without it, the manifest, its paths and
            its signatures are still checked.

    Raises:
        ArtifactError: a file is missing, damaged, outside the folder or does not fit; or an unknown version.
    """
    artifact = read_manifest(Path(path))
    if verify:
        verify_artifact_files(artifact)
    return artifact


def verify_tokenizer(artifact: Artifact) -> None:
    """Checks size and SHA-256 of the tokenizer's files.

    Raises:
        ArtifactError: naming the file.
    """
    verify_files(artifact.path, _files_in(artifact, TOKENIZER), ArtifactError)


def verify_weights(artifact: Artifact) -> None:
    """Checks size and SHA-256 of what a session reads beside tokenizer, graphs and task packs: weights.

    For an artifact that is ``hashing``: graphs, engines and packs are hashed when they are read, so that a thousand
    task packs cost nothing until they are used. Golden rows and companions of folded graphs are not read, and not
    hashed.

    Raises:
        ArtifactError: naming the file.
    """
    manifest = artifact.manifest
    others = {task.pack for task in manifest.tasks.values()} | {engine.path for engine in manifest.engines}
    others = others.union(*(form.paths() for form in manifest.forms.values()))
    others |= {manifest.golden, *_files_in(artifact, FOLDED), *_files_in(artifact, TOKENIZER)}
    for name, record in manifest.files.items():
        if name not in others:
            artifact.held.verify(artifact.path, name, record)
    _verify_tuned(artifact, only_weights=True)


def read_manifest(path: Path, hashing: bool = False) -> Artifact:
    """The artifact in folder ``path`` after all checks but the files' hashes; ``hashing`` as in :class:`Artifact`.

    Links on the way are followed once, here: what is opened later is in the same folder, whatever the process's working
    folder is then, and wherever a link that names the current version leads.
    """
    try:
        path = Path(os.path.realpath(path))
    except ValueError as error:
        raise ArtifactError(f"{str(path)!r} cannot be a path ({error}); name the artifact's folder") from error
    source = path / MANIFEST
    value = read_json(source, "artifact", ArtifactError)
    check_format(value, FORMAT, VERSION, str(source), ArtifactError)
    manifest = Manifest.from_json(unsealed(value, str(source), ArtifactError, FILES), str(source))
    try:
        _check_references(manifest)
        check_forms(manifest)
        _check_engines(manifest)
    except ArtifactError as error:
        raise ArtifactError(f"{source}: {error}") from error
    check_paths_inside(path, manifest.files, ArtifactError)
    return Artifact(path, manifest, hashing)


def verify_artifact_files(artifact: Artifact) -> None:
    """Checks size and SHA-256 of every file; hard links of one file are hashed once.

    Raises:
        ArtifactError: naming the file.
    """
    _verify(artifact, artifact.manifest.files)


def _verify(artifact: Artifact, records: dict[str, dict[str, Any]]) -> None:
    unique = {_identity(artifact.path, relative, record): relative for relative, record in records.items()}
    chosen = {relative: records[relative] for relative in unique.values()}
    try:
        verify_files(artifact.path, chosen, ArtifactError)
        _verify_tuned(artifact, only_weights=False)
    except PermissionError as error:
        raise ArtifactError(f"{artifact.path}: no permission to read {error.filename}") from error


def _files_in(artifact: Artifact, folder: str) -> dict[str, dict[str, Any]]:
    return {name: record for name, record in artifact.manifest.files.items() if name.startswith(f"{folder}/")}


def _verify_tuned(artifact: Artifact, only_weights: bool) -> None:
    """Hashes what stands in ``tuned/`` if it is this artifact's; its graphs are hashed when they are read, too."""
    if artifact.may_be_tuned:
        from propetl.runtime.tuned import read_tuned

        tuned = read_tuned(artifact.path)
        if tuned is not None and tuned.is_of(artifact.path):
            for name in tuned.weights if only_weights else tuned.files:
                artifact.held.verify(tuned.root, name, tuned.files[name])


def _check_engines(manifest: Manifest) -> None:
    if manifest.engines:
        from propetl.runtime.engine_checks import check_engines

        check_engines(manifest)


def _identity(root: Path, relative: str, record: dict[str, Any]) -> tuple[object, ...]:
    path = root / relative
    if not path.is_file():
        return (relative,)
    status = path.stat()
    return (status.st_dev, status.st_ino, record["sha256"], record["bytes"])


def _check_references(manifest: Manifest) -> None:
    """Operators and precision are known; every file that is going to be used is listed, and so was hashed."""
    check_operators(manifest.operators)
    if manifest.precision not in PRECISIONS:
        known = ", ".join(PRECISIONS)
        raise ArtifactError(f"precision {manifest.precision!r} is unknown (known: {known}); upgrade propetl")
    graphs = sorted(set().union(*(form.paths() for form in manifest.forms.values())))
    packs = [task.pack for task in manifest.tasks.values()]
    for needed in (BACKBONE_FILE, TOKENIZER_FILE, manifest.golden, *packs, *graphs):
        if needed not in manifest.files:
            raise ArtifactError(f"{needed} is not among its files; restore it from its source")
