"""What a bundle holds, counted: storage in bits, sparsity per slot, overlap of masks. Loads no torch."""

from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from functools import reduce
from itertools import combinations, combinations_with_replacement
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bits import count_ones
from propetl.bundle import Bundle, TaskPack
from propetl.bundle.format import pack_path
from propetl.bundle.tensors import Arrays
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.spec import STACKS

BITS_PER_FLOAT = 32

Matrix = NDArray[np.float64]


@dataclass(frozen=True)
class TaskStorage:
    """Bits of one task, as the paper counts them: 32 per float, 1 per mask entry.

    Attributes:
        masks: bits of its own masks.
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
        prototype: bits of the shared prototype's weights, counted once.
        layer_masks: bits of the layers' masks where all tasks share them.
        languages: bits of each language's masks.
        backbone: bits of the backbone, which full fine-tuning costs for every task.
        tasks: bits by task.
    """

    prototype: int
    layer_masks: int
    languages: dict[str, int]
    backbone: int
    tasks: dict[str, TaskStorage]

    @property
    def shared(self) -> dict[str, int]:
        """What is paid once, by what it is; only what is there."""
        languages = {f"language {name}": bits for name, bits in self.languages.items()}
        parts = {"prototype": self.prototype, "layer masks": self.layer_masks, **languages}
        return {name: bits for name, bits in parts.items() if bits}

    @property
    def bits(self) -> int:
        """What is shared and all tasks, without heads."""
        return sum(self.shared.values()) + sum(task.bits for task in self.tasks.values())

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
    """Jaccard overlap of masks: entries in both / entries in either. Every matrix is symmetric.

    Slots at which different prototypes run have nothing in common to compare: NaN.

    Attributes:
        layers: float ``[slots, slots]``: the layers' masks that all tasks share; None where each task has its own.
        slots: by task, float ``[slots, slots]``: its slots' masks among each other; empty where all slots share one.
        tasks: float ``[tasks, tasks]`` in the bundle's order: two tasks' own masks; None where they have none.
        languages: float ``[languages, languages]`` in the prototype's order; None without languages.
    """

    layers: Matrix | None
    slots: dict[str, Matrix]
    tasks: Matrix | None
    languages: Matrix | None

    def between_slots(self) -> dict[str, Matrix]:
        """Matrices over slots by whose masks they are: of the layers, or of each task."""
        return self.slots if self.layers is None else {"layer masks": self.layers}


@dataclass(frozen=True)
class Inspection:
    """Everything that ``propetl inspect`` shows.

    Attributes:
        bundle: what was inspected.
        storage: bits.
        kept: by task and tensor, float ``[slots]``: the share of weights that run at each slot of its prototype.
        overlap: None where nothing is masked.
    """

    bundle: Bundle
    storage: Storage
    kept: dict[str, dict[str, NDArray[np.float64]]]
    overlap: Overlap | None

    def kept_at(self, task: str, slot: int) -> float:
        """Share of all masked weights that ``task`` keeps at ``slot``."""
        layout = self.bundle.info.layout
        here = layout.tensors_at(slot)
        sizes = {tensor.name: tensor.size for tensor in layout.masked_tensors if tensor.name in here}
        ones = sum(self.kept[task][name][here[name]] * size for name, size in sizes.items())
        return float(ones / sum(sizes.values()))

    def mask_bytes(self, task: str) -> int:
        """Bytes of the packed masks of ``task``'s own: its bits, filled up to bytes slot by slot."""
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
        info = self.bundle.info
        return {
            "layers": None if overlap.layers is None else _matrix_json(overlap.layers),
            "slots": {task: _matrix_json(matrix) for task, matrix in overlap.slots.items()},
            "tasks": _pairs_json(list(info.tasks), overlap.tasks),
            "languages": _pairs_json(list(info.prototype.languages), overlap.languages),
        }


def inspect(bundle: Bundle) -> Inspection:
    """Counts and compares what ``bundle`` holds."""
    sizes = {tensor.name: tensor.size for tensor in bundle.info.layout.masked_tensors}
    kept = {
        task: {name: count_ones(mask) / sizes[name] for name, mask in running_masks(bundle, pack).items()}
        for task, pack in bundle.packs.items()
    }
    return Inspection(bundle, storage_of(bundle), kept, _overlap(bundle))


def running_masks(bundle: Bundle, pack: TaskPack) -> dict[str, NDArray[np.uint8]]:
    """Which weights run at each slot for one task, packed uint8 ``[slots, bytes]``; empty where nothing is masked."""
    config, shared = bundle.info.prototype, bundle.shared_masks
    groups = [group for group in (shared.layers, pack.language_masks, pack.masks) if group]
    if not groups:
        return {}
    join = np.bitwise_and if config.combine == "and" else np.bitwise_or
    shapes = bundle.info.layout.slot_masks()
    found = {name: reduce(join, [group[name] for group in groups]) for name in shapes}
    return {name: np.broadcast_to(mask, shapes[name]) for name, mask in found.items()}


def storage_of(bundle: Bundle) -> Storage:
    """Bits of ``bundle``."""
    layout, shared = bundle.info.layout, bundle.shared_masks
    return Storage(
        prototype=_float_bits(bundle.prototype),
        layer_masks=_mask_bits(shared.layers, layout),
        languages={name: _mask_bits(masks, layout) for name, masks in shared.languages.items()},
        backbone=BITS_PER_FLOAT * bundle.info.backbone.parameters,
        tasks={task: _task_storage(bundle.path, task, pack, bundle) for task, pack in bundle.packs.items()},
    )


def slot_names(layout: TaskLayout) -> list[str]:
    """Names of the slots: ``layer 0``, ``layer 0 attention`` where a layer has two, ``decoder 0 cross`` and so on."""
    stacks = STACKS if layout.decoder_layers else ("layer",)
    return [
        f"{name} {layer} {place if len(places) > 1 else ''}".strip()
        for name, (layers, places) in zip(stacks, layout.stacks, strict=True)
        for layer in range(layers)
        for place in places
    ]


def overlap_by_chance(sparsity: float) -> float:
    """Expected overlap of two masks that keep a share ``k`` each, drawn apart: ``k / (2 - k)``."""
    return sparsity / (2 - sparsity)


def _task_storage(path: Path, task: str, pack: TaskPack, bundle: Bundle) -> TaskStorage:
    return TaskStorage(
        masks=_mask_bits(pack.masks, bundle.info.layout),
        weights=_float_bits(pack.weights),
        head=_float_bits(pack.head),
        file_bytes=(path / pack_path(task)).stat().st_size,
    )


def _mask_bits(masks: Arrays, layout: TaskLayout) -> int:
    """Entries of ``masks``, without what fills them up to bytes."""
    return sum(
        tensor.size * (masks[tensor.name].size // tensor.mask_bytes)
        for tensor in layout.masked_tensors
        if tensor.name in masks
    )


def _float_bits(tensors: Mapping[str, NDArray[np.float32]]) -> int:
    return BITS_PER_FLOAT * sum(tensor.size for tensor in tensors.values())


def _overlap(bundle: Bundle) -> Overlap | None:
    shared, layout = bundle.shared_masks, bundle.info.layout
    masks = {task: pack.masks for task, pack in bundle.packs.items() if pack.masks}
    if not masks and not shared.layers:
        return None
    per_slot = bundle.info.prototype.masks == "layer"
    return Overlap(
        layers=_between_slots(shared.layers, layout) if shared.layers else None,
        slots={task: _between_slots(own, layout) for task, own in masks.items()} if per_slot else {},
        tasks=_between(masks.values()),
        languages=_between(shared.languages.values()),
    )


def _between(owners: Iterable[Arrays]) -> Matrix | None:
    """Overlap of whole owners, all their slots together; None if there are none."""
    whole = [np.concatenate([masks[name].reshape(-1) for name in sorted(masks)]) for masks in owners]
    return jaccard_matrix(np.stack(whole)) if whole else None


def _between_slots(masks: Arrays, layout: TaskLayout) -> Matrix:
    """Overlap of one owner's masks at two slots each, over the tensors that run at both: ``[slots, slots]``."""
    matrix = np.full((layout.slots, layout.slots), np.nan)
    rows = [
        {name: masks[name][place] for name, place in layout.tensors_at(slot).items() if name in masks}
        for slot in range(layout.slots)
    ]
    for left, right in combinations_with_replacement(range(layout.slots), 2):
        if common := sorted(rows[left].keys() & rows[right].keys()):
            pair = np.stack([np.concatenate([rows[slot][name] for name in common]) for slot in (left, right)])
            matrix[left, right] = matrix[right, left] = jaccard_matrix(pair)[0, 1]
    return matrix


def jaccard_matrix(rows: NDArray[np.uint8]) -> Matrix:
    """Overlap of packed masks ``[n, bytes]`` with each other: symmetric ``[n, n]``, ones on the diagonal."""
    matrix = np.eye(len(rows))
    for left, right in combinations(range(len(rows)), 2):
        either = count_ones(rows[left] | rows[right]).item()
        both = count_ones(rows[left] & rows[right]).item()
        matrix[left, right] = matrix[right, left] = both / either if either else 1.0
    return matrix


def _matrix_json(matrix: Matrix) -> list[list[float | None]]:
    """JSON has no NaN: null."""
    return [[None if np.isnan(value) else float(value) for value in row] for row in matrix]


def _pairs_json(order: list[str], matrix: Matrix | None) -> dict[str, Any] | None:
    return None if matrix is None else {"order": order, "matrix": matrix.tolist()}


def _storage_json(storage: Storage) -> dict[str, Any]:
    return {
        "prototype_bits": storage.prototype,
        "layer_mask_bits": storage.layer_masks,
        "language_mask_bits": storage.languages,
        "total_bits": storage.bits,
        "head_bits": storage.head_bits,
        "backbone_bits": storage.backbone,
        "full_fine_tuning_bits": storage.full_fine_tuning,
        "share_of_full_fine_tuning": storage.bits / storage.full_fine_tuning,
    }
