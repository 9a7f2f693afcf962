"""The task pack: one task's masks and head in one small file."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bits import padding_is_zero
from propetl.bundle.format import PACK_FORMAT, VERSION, TaskInfo, check_format, check_task_name, task_info
from propetl.bundle.tensors import Arrays, check_shapes, read_tensors, tensor_bytes
from propetl.errors import BundleError, ProPETLError
from propetl.prototypes.spec import TaskLayout

MASK = "mask."
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
        masks: packed masks by prototype tensor, uint8 ``[slots, bytes]``.
        weights: float weights of an unshared task by tensor, float32 ``[slots, *shape]``.
        head: ``weight`` ``[outputs, hidden]``, ``bias`` ``[outputs]``, and ``dense.*`` for the family's own head.
    """

    task: str
    info: TaskInfo
    prototype_sha256: str
    backbone_fingerprint: str
    masks: dict[str, NDArray[np.uint8]] = field(default_factory=dict)
    weights: dict[str, NDArray[np.float32]] = field(default_factory=dict)
    head: dict[str, NDArray[np.float32]] = field(default_factory=dict)

    def tensors(self) -> Arrays:
        """All tensors by the names that files and graph inputs use, such as ``mask.down.weight``."""
        groups = ((MASK, self.masks), (WEIGHT, self.weights), (HEAD, self.head))
        return {prefix + name: tensor for prefix, group in groups for name, tensor in group.items()}

    def to_bytes(self) -> bytes:
        """The file; the same pack always gives the same bytes."""
        return tensor_bytes(self.tensors(), self._description())

    def _description(self) -> dict[str, Any]:
        return {
            "format": PACK_FORMAT,
            "version": VERSION,
            "task": self.task,
            "problem": self.info.problem,
            "labels": self.info.labels,
            "columns": self.info.columns,
            "metrics": self.info.metrics,
            "prototype_sha256": self.prototype_sha256,
            "backbone_fingerprint": self.backbone_fingerprint,
        }

    def check(self, layout: TaskLayout, source: str) -> None:
        """Refuses masks and weights that do not fit ``layout``, and masks with stray bits."""
        check_shapes(dict(self.masks), dict(layout.mask_shapes()), "uint8", source)
        if layout.config.method != "full":
            check_shapes(dict(self.weights), layout.weight_shapes(), "float32", source)
        sizes = {tensor.name: tensor.size for tensor in layout.masked_tensors}
        for name, mask in self.masks.items():
            if not padding_is_zero(mask, sizes[name]):
                raise BundleError(f"{source}: the mask of {name} has bits beyond its {sizes[name]} entries; it is damaged")
        self._check_head(layout.hidden_size, source)

    def _check_head(self, hidden: int, source: str) -> None:
        outputs = self.info.outputs
        expected: dict[str, tuple[int, ...]] = {"weight": (outputs, hidden), "bias": (outputs,)}
        if "dense.weight" in self.head:
            expected |= {"dense.weight": (hidden, hidden), "dense.bias": (hidden,)}
        check_shapes(dict(self.head), expected, "float32", f"{source} (head)")


def read_pack(path: Path) -> TaskPack:
    """Reads a task pack; shapes are checked against a prototype by :meth:`TaskPack.check`.

    Raises:
        BundleError: the file is damaged, of another format, or of a version not known here.
    """
    tensors, described = read_tensors(path)
    check_format(described, PACK_FORMAT, VERSION, str(path), BundleError)
    try:
        return _pack_from(tensors, described)
    except (KeyError, TypeError, AttributeError, ProPETLError) as error:
        raise BundleError(f"{path}: not a valid task pack ({error})") from error


def _pack_from(tensors: Arrays, described: dict[str, Any]) -> TaskPack:
    return TaskPack(
        task=check_task_name(described["task"]),
        info=task_info(described),
        prototype_sha256=described["prototype_sha256"],
        backbone_fingerprint=described["backbone_fingerprint"],
        masks=_group(tensors, MASK),
        weights=_group(tensors, WEIGHT),
        head=_group(tensors, HEAD),
    )


def _group(tensors: Arrays, prefix: str) -> Arrays:
    return {name.removeprefix(prefix): tensor for name, tensor in tensors.items() if name.startswith(prefix)}
