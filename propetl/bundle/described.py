"""The description of its task that a task pack carries; manifests that list the pack repeat it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.bundle.format import PACK_FORMAT, VERSION, check_format
from propetl.bundle.tensors import read_header
from propetl.errors import BundleError, ProPETLError
from propetl.task import TaskSpec, check_task_name

IN_PACKS = ("problem", "labels", "columns", "metrics", "language", "text", "template")
"""Keys of a task that a pack holds: whatever decides how it is asked and answered."""

_OF_HEAD = ("head.weight", "head.bias")
"""Tensors with a row for each output."""


@dataclass(frozen=True)
class PackDescription:
    """A pack's metadata.

    Attributes:
        task: its name.
        info: problem, labels, columns, metrics.
        prototype_sha256: of the ``prototype.safetensors`` that the masks belong to.
        backbone_fingerprint: of the backbone that it was trained on.
    """

    task: str
    info: TaskSpec
    prototype_sha256: str
    backbone_fingerprint: str

    @classmethod
    def from_json(cls, value: dict[str, Any]) -> "PackDescription":
        """Out of the metadata; a key that is missing or of another kind is a ValueError."""
        sha256, fingerprint = (
            fields.text(fields.need(value, key), key) for key in ("prototype_sha256", "backbone_fingerprint")
        )
        task = check_task_name(fields.need(value, "task"))
        return cls(task, TaskSpec.from_json(task, value), sha256, fingerprint)


def read_description(path: Path) -> PackDescription:
    """The description of the pack at ``path``, out of its first few bytes: values of tensors are not read.

    Raises:
        BundleError: the file is damaged, of another format, of a version not known here, or has a head of another
            number of outputs than its task.
    """
    shapes, described = read_header(path)
    check_format(described, PACK_FORMAT, VERSION, str(path), BundleError)
    try:
        description = PackDescription.from_json(described)
    except (ValueError, ProPETLError) as error:
        raise BundleError(f"{path}: not a valid task pack ({error})") from error
    outputs = description.info.outputs
    rows = {name: shapes[name][:1] for name in _OF_HEAD if name in shapes}
    if any(found != (outputs,) for found in rows.values()) or bool(rows) != bool(outputs):
        raise BundleError(f"{path}: its head is {shapes}, its task has {outputs} outputs; restore it from its source")
    return description


def check_described_as(
    found: PackDescription, task: str, stated: TaskSpec, source: str, error: type[ProPETLError]
) -> None:
    """Refuses a pack of another task, or one that says something else of it than the manifest that lists it.

    Args:
        found: what the pack says.
        task: under which the manifest lists it.
        stated: what the manifest says of it; keys that a pack does not hold, such as scores, do not count.
        source: the pack, for messages.
        error: class of the error to raise, which names what differs.
    """
    if found.task != task:
        raise error(f"{source}: holds task {found.task!r}, expected {task!r}; restore it from its source")
    for key in IN_PACKS:
        there, here = getattr(found.info, key), getattr(stated, key)
        if there != here:
            raise error(
                f"{source}: {key} of task {task!r} are {there!r}, but the manifest says {here!r}; "
                "restore both from their source"
            )
