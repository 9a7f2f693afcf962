"""What a bundle holds, counted: storage in bits, sparsity per slot, overlap of masks. Loads no torch."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from itertools import combinations
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bits import count_ones
from propetl.bundle import Bundle, TaskPack
from propetl.bundle.format import pack_path
from propetl.bundle.tensors import Arrays
from propetl.prototypes.spec import TaskLayout

BITS_PER_FLOAT = 32


@dataclass(frozen=True)
class TaskStorage:
    """Bits of one task, as the paper counts them: 32 per float, 1 per mask entry.

    Attributes:
        masks: bits of its masks.
        weights: bits of its own float weights (unshared methods).
        head: bits of its head.
        file_bytes: size of its pack on disk.
    """

    masks: int
    weights: int
    head: int
    file_bytes: int

    @property
    def bits(self) -> int:
        """Without the head, as in the paper."""
        return self.masks + self.weights


@dataclass(frozen=True)
class Storage:
    """Bits of a whole bundle beside its backbone.

    Attributes:
        prototype: bits of the shared prototype, counted once.
        backbone: bits of the backbone, which full fine-tuning costs for every task.
        tasks: bits by task.
    """

    prototype: int
    backbone: int
    tasks: dict[str, TaskStorage]

    @property
    def bits(self) -> int:
        """Prototype and all tasks, without heads."""
        return self.prototype + sum(task.bits for task in self.tasks.values())

    @property
    def head_bits(self) -> int:
        """All heads."""
        return sum(task.head for task in self.tasks.values())

    @property
    def full_fine_tuning(self) -> int:
        """What full fine-tuning of every task takes, without heads."""
        return self.backbone * max(1, len(self.tasks))

    def share(self, bits: int) -> float:
        """``bits`` against one backbone."""
        return bits / self.backbone


@dataclass(frozen=True)
class Overlap:
    """Jaccard overlap of masks: entries in both / entries in either.

    Attributes:
        slots: by task, symmetric float ``[slots, slots]``: one task's slots among each other.
        tasks: symmetric float ``[tasks, tasks]`` in the bundle's order: two tasks' masks of all slots.
    """

    slots: dict[str, NDArray[np.float64]]
    tasks: NDArray[np.float64]


@dataclass(frozen=True)
class Inspection:
    """Everything that ``propetl inspect`` shows.

    Attributes:
        bundle: what was inspected.
        storage: bits.
        kept: by task and tensor, float ``[slots]``: the share of weights that each slot's mask keeps.
        overlap: None where nothing is masked.
    """

    bundle: Bundle
    storage: Storage
    kept: dict[str, dict[str, NDArray[np.float64]]]
    overlap: Overlap | None

    def kept_at(self, task: str, slot: int) -> float:
        """Share of all masked weights that ``task`` keeps at ``slot``."""
        sizes = {tensor.name: tensor.size for tensor in self.bundle.info.layout.masked_tensors}
        ones = sum(values[slot] * sizes[name] for name, values in self.kept[task].items())
        return float(ones / sum(sizes.values()))

    def mask_bytes(self, task: str) -> int:
        """Bytes of the packed masks of ``task``: its bits, filled up to bytes slot by slot."""
        return sum(mask.nbytes for mask in self.bundle.packs[task].masks.values())

    def to_json(self) -> dict[str, Any]:
        """For machines; arrays as nested lists."""
        info = self.bundle.info
        return {
            "bundle": str(self.bundle.path),
            "sha256": self.bundle.sha256,
            "backbone": asdict(info.backbone),
            "prototype": info.prototype.to_json(),
            "head": info.head,
            "max_length": info.max_length,
            "slots": slot_names(info.layout),
            "storage": _storage_json(self.storage),
            "tasks": {task: self._task_json(task) for task in info.tasks},
            "overlap": None if self.overlap is None else self._overlap_json(self.overlap),
        }

    def _task_json(self, task: str) -> dict[str, Any]:
        storage = self.storage.tasks[task]
        return {
            **asdict(self.bundle.info.tasks[task]),
            "storage": {
                "mask_bits": storage.masks,
                "weight_bits": storage.weights,
                "head_bits": storage.head,
                "file_bytes": storage.file_bytes,
                "mask_bytes": self.mask_bytes(task),
                "share_of_backbone": self.storage.share(storage.bits),
            },
            "kept": {name: values.tolist() for name, values in self.kept[task].items()},
        }

    def _overlap_json(self, overlap: Overlap) -> dict[str, Any]:
        return {
            "slots": {task: matrix.tolist() for task, matrix in overlap.slots.items()},
            "tasks": {"order": list(self.bundle.info.tasks), "matrix": overlap.tasks.tolist()},
        }


def inspect(bundle: Bundle) -> Inspection:
    """Counts and compares what ``bundle`` holds."""
    sizes = {tensor.name: tensor.size for tensor in bundle.info.layout.masked_tensors}
    kept = {
        task: {name: count_ones(mask) / sizes[name] for name, mask in pack.masks.items()}
        for task, pack in bundle.packs.items()
    }
    return Inspection(bundle, storage_of(bundle), kept, _overlap(bundle))


def storage_of(bundle: Bundle) -> Storage:
    """Bits of ``bundle``."""
    return Storage(
        prototype=_float_bits(bundle.prototype),
        backbone=BITS_PER_FLOAT * bundle.info.backbone.parameters,
        tasks={task: _task_storage(bundle.path, task, pack, bundle) for task, pack in bundle.packs.items()},
    )


def slot_names(layout: TaskLayout) -> list[str]:
    """Names of the slots, such as ``layer 0``, or ``layer 0 attention`` where a layer has two."""
    sites = layout.config.sites if layout.config.sites_per_layer > 1 else ("",)
    return [f"layer {layer} {site}".strip() for layer in range(layout.layers) for site in sites]


def overlap_by_chance(sparsity: float) -> float:
    """Expected overlap of two masks that keep a share ``k`` each, drawn apart: ``k / (2 - k)``."""
    return sparsity / (2 - sparsity)


def _task_storage(path: Path, task: str, pack: TaskPack, bundle: Bundle) -> TaskStorage:
    layout = bundle.info.layout
    entries = sum(tensor.size for tensor in layout.masked_tensors) * layout.slots if pack.masks else 0
    return TaskStorage(
        masks=entries,
        weights=_float_bits(pack.weights),
        head=_float_bits(pack.head),
        file_bytes=(path / pack_path(task)).stat().st_size,
    )


def _float_bits(tensors: Mapping[str, NDArray[np.float32]]) -> int:
    return BITS_PER_FLOAT * sum(tensor.size for tensor in tensors.values())


def _overlap(bundle: Bundle) -> Overlap | None:
    rows = {task: _mask_rows(pack.masks) for task, pack in bundle.packs.items() if pack.masks}
    if not rows:
        return None
    whole = np.stack([masks.reshape(-1) for masks in rows.values()])  # [tasks, slots * bytes]
    return Overlap({task: jaccard_matrix(masks) for task, masks in rows.items()}, jaccard_matrix(whole))


def _mask_rows(masks: Arrays) -> NDArray[np.uint8]:
    """All masks of a slot in one row: ``[slots, bytes]``."""
    return np.concatenate([masks[name] for name in sorted(masks)], axis=1)


def jaccard_matrix(rows: NDArray[np.uint8]) -> NDArray[np.float64]:
    """Overlap of packed masks ``[n, bytes]`` with each other: symmetric ``[n, n]``, ones on the diagonal."""
    matrix = np.eye(len(rows))
    for left, right in combinations(range(len(rows)), 2):
        either = count_ones(rows[left] | rows[right]).item()
        both = count_ones(rows[left] & rows[right]).item()
        matrix[left, right] = matrix[right, left] = both / either if either else 1.0
    return matrix


def _storage_json(storage: Storage) -> dict[str, Any]:
    return {
        "prototype_bits": storage.prototype,
        "total_bits": storage.bits,
        "head_bits": storage.head_bits,
        "backbone_bits": storage.backbone,
        "full_fine_tuning_bits": storage.full_fine_tuning,
        "share_of_full_fine_tuning": storage.bits / storage.full_fine_tuning,
    }
