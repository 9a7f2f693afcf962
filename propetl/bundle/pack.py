"""The task pack: one task's masks and head in one small file."""

import hashlib
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.described import IN_PACKS, PackDescription
from propetl.bundle.format import (
    METADATA_KEY,
    PACK_FORMAT,
    VERSION,
    check_format,
    head_shapes,
    metadata,
)
from propetl.bundle.tensors import (
    Arrays,
    check_finite,
    check_masks,
    check_shapes,
    group_of,
    read_tensors,
    tensor_bytes,
    tensors_of,
)
from propetl.errors import BundleError, ConfigurationError, ProPETLError, TaskError
from propetl.prototypes.layout import TaskLayout
from propetl.sealed import CONTENT_SHA256
from propetl.task import TaskSpec

MASK = "mask."
LANGUAGE_MASK = "language_mask."
WEIGHT = "weight."
HEAD = "head."


@dataclass(frozen=True)
class TaskPack:
    """One task, ready to be bound to a graph.

    Attributes:
        task: its name.
        info: problem, labels, columns, metrics.
        prototype_sha256: of the ``prototype.safetensors`` that the masks belong to.
        backbone_fingerprint: of the backbone that it was trained on.
        masks: its own packed masks by prototype tensor, uint8 ``[slots, bytes]``, or ``[bytes]`` for all slots.
        weights: float weights of an unshared task by tensor, float32 ``[slots, *shape]``.
        head: ``weight`` ``[outputs, hidden]``, ``bias`` ``[outputs]``; ``dense.*`` for the family's own head. Empty
            for text.
        language_masks: copy of its language's masks, uint8 ``[bytes]``: a pack that travels alone is all that a
            graph takes of a task.
    """

    task: str
    info: TaskSpec
    prototype_sha256: str
    backbone_fingerprint: str
    masks: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    head: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    language_masks: dict[str, NDArray[np.uint8]] = field(default_factory=dict)

    def tensors(self) -> Arrays:
        """All tensors by the names that files and graph inputs use, such as ``mask.down.weight``."""
        groups: tuple[tuple[str, Arrays], ...] = (
            (MASK, self.masks),
            (LANGUAGE_MASK, self.language_masks),
            (WEIGHT, self.weights),
            (HEAD, self.head),
        )
        return {prefix + name: tensor for prefix, group in groups for name, tensor in group.items()}

    def to_bytes(self) -> bytes:
        """The file; the same pack always gives the same bytes."""
        tensors, description = self.tensors(), self._description()
        return tensor_bytes(tensors, description | {CONTENT_SHA256: content_sha256(tensors, description)})

    @property
    def said(self) -> PackDescription:
        """Its description of the task, without tensors."""
        return PackDescription(self.task, self.info, self.prototype_sha256, self.backbone_fingerprint)

    @property
    def head_kind(self) -> str:
        """``own`` or ``linear``."""
        return "own" if "dense.weight" in self.head else "linear"

    def _description(self) -> dict[str, Any]:
        said = self.info.to_json()
        return {
            "format": PACK_FORMAT,
            "version": VERSION,
            "task": self.task,
            **{key: said[key] for key in IN_PACKS},
            "prototype_sha256": self.prototype_sha256,
            "backbone_fingerprint": self.backbone_fingerprint,
        }

    def check(self, layout: TaskLayout, source: str) -> None:
        """Refuses tensors that do not fit ``layout``, masks with stray bits, and numbers that are not finite."""
        try:
            layout.config.check_language(self.task, self.info.language)
        except ConfigurationError as error:
            raise BundleError(f"{source}: {error}") from error
        check_finite(self.tensors(), source)
        check_masks(self.masks, layout.mask_shapes(), layout, source)
        check_masks(self.language_masks, layout.language_mask_shapes(), layout, f"{source} (language)")
        if not layout.config.specification.trains_backbone:
            check_shapes(dict(self.weights), layout.weight_shapes(), "float32", source)
        self._check_head(layout.hidden_size, source)

    def check_head_kind(self, kind: str, source: str) -> None:
        """Refuses a head of another kind than the task has in a bundle of ``kind``; a text task has none."""
        wanted = self.info.head_kind(kind)
        if self.head and self.head_kind != wanted:
            raise BundleError(f"{source}: its kind of head is {self.head_kind}, here it has to be {wanted}")

    def _check_head(self, hidden: int, source: str) -> None:
        expected = head_shapes(self.head_kind, hidden, self.info.outputs) if self.info.outputs else {}
        check_shapes(dict(self.head), expected, "float32", f"{source} (head)")


def read_pack(path: Path) -> TaskPack:
    """Reads a task pack; shapes are checked against a prototype by :meth:`TaskPack.check`.

    Raises:
        BundleError: the file is damaged, of another format, or of a version not known here.
    """
    tensors, described = read_tensors(path)
    check_format(described, PACK_FORMAT, VERSION, str(path), BundleError)
    stated = described.pop(CONTENT_SHA256, None)
    if stated != content_sha256(tensors, described):
        raise BundleError(f"{path}: its content is not what its {CONTENT_SHA256} says; it was changed or damaged")
    return _pack_from(tensors, described, str(path))


def parse_pack(content: bytes, source: str) -> TaskPack:
    """:func:`read_pack` for the content of file ``source``, for which a manifest vouches: it is not hashed again."""
    tensors, described = tensors_of(content, source)
    check_format(described, PACK_FORMAT, VERSION, source, BundleError)
    return _pack_from(tensors, described, source)


def check_belongs(
    pack: TaskPack | PackDescription, prototype_sha256: str, backbone_fingerprint: str, source: str
) -> None:
    """Refuses a pack that was trained over another backbone or another prototype.

    Raises:
        TaskError: naming both hashes.
    """
    if pack.backbone_fingerprint != backbone_fingerprint:
        raise TaskError(
            f"{source}: made for backbone {pack.backbone_fingerprint[:12]}, but this one is "
            f"{backbone_fingerprint[:12]}; train the task again on this backbone"
        )
    if pack.prototype_sha256 != prototype_sha256:
        raise TaskError(
            f"{source}: made for prototype {pack.prototype_sha256[:12]}, but this one is "
            f"{prototype_sha256[:12]}; train the task with --add-to this bundle"
        )


def content_sha256(tensors: Arrays, description: dict[str, Any]) -> str:
    """SHA-256 over description and tensors: a pack may travel alone, with no manifest to vouch for it.

    Hashed are the description as JSON, then of each tensor, by name, the line ``name dtype shape`` and
    its little-endian bytes.
    """
    digest = hashlib.sha256(metadata(description)[METADATA_KEY].encode())
    for name, tensor in sorted(tensors.items()):
        digest.update(f"\n{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        digest.update(np.ascontiguousarray(tensor).tobytes())
    return digest.hexdigest()


def _pack_from(tensors: Arrays, described: dict[str, Any], source: str) -> TaskPack:
    try:
        return _described_pack(tensors, described)
    except (ValueError, ProPETLError) as error:
        raise BundleError(f"{source}: not a valid task pack ({error})") from error


def _described_pack(tensors: Arrays, described: dict[str, Any]) -> TaskPack:
    if unknown := [name for name in tensors if not name.startswith((MASK, LANGUAGE_MASK, WEIGHT, HEAD))]:
        raise ValueError(f"tensor {min(unknown)!r} is no mask, weight or head")
    said = PackDescription.from_json(described)
    return TaskPack(
        task=said.task,
        info=said.info,
        prototype_sha256=said.prototype_sha256,
        backbone_fingerprint=said.backbone_fingerprint,
        masks=group_of(tensors, MASK),
        weights=group_of(tensors, WEIGHT),
        head=group_of(tensors, HEAD),
        language_masks=group_of(tensors, LANGUAGE_MASK),
    )
