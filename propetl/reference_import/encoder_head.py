"""The reference's classification head, and what it says of the task."""

from dataclasses import dataclass, replace
from typing import Any

from propetl.data.tasks import TASKS
from propetl.errors import BundleError
from propetl.families import Family
from propetl.problems import PROBLEMS
from propetl.reference_import.encoder_files import HEAD_CONFIG_FILE, EncoderFiles
from propetl.reference_import.method import Floats, floats
from propetl.task import TaskSpec


@dataclass(frozen=True)
class ImportedHead:
    """A head and its task.

    Attributes:
        kind: ``own`` (dense, activation, linear) or ``linear``.
        tensors: by the names of a task pack's ``head`` group.
        labels: in the order of the logits; empty for a regression.
    """

    kind: str
    tensors: Floats
    labels: tuple[str, ...]


def imported_head(files: EncoderFiles, family: Family) -> ImportedHead:
    """The head that ``files`` hold: dropout, linear, activation, dropout, linear, on the first token.

    Raises:
        BundleError: it has other layers, another activation than the family's, or reads a pooler.
    """
    source = files.folder / HEAD_CONFIG_FILE
    config = files.head_config
    layers, activation = config.get("layers", 2), config.get("activation_function", "tanh")
    if config.get("head_type", "classification") != "classification" or config.get("use_pooler"):
        raise BundleError(f"{source}: only a classification head on the first token, without pooler, can be imported")
    if layers not in (1, 2):
        raise BundleError(f"{source}: a head of {layers} layers cannot be imported, only of 1 or 2")
    if layers == 2 and activation != family.head_activation:
        raise BundleError(
            f"{source}: its activation is {activation!r}, but the own head of {family.name} has "
            f"{family.head_activation!r}"
        )
    places = {"": 1} if layers == 1 else {"dense.": 1, "": 4}  # numbers of the linear ones among the five
    tensors = {
        f"{name}{part}": files.head.take(f"heads.{files.name}.{number}.{part}")
        for name, number in places.items()
        for part in ("weight", "bias")
    }
    outputs = tensors["bias"].shape[0]
    return ImportedHead("linear" if layers == 1 else "own", floats(tensors), _labels(config, outputs, str(source)))


def _labels(config: Any, outputs: int, source: str) -> tuple[str, ...]:
    """Class names by logit; none for the one value of a regression."""
    by_name = config.get("label2id") or {}
    if not by_name and outputs == 1:
        return ()
    names = {int(index): str(name) for name, index in by_name.items()} or {
        index: f"label_{index}" for index in range(outputs)
    }
    if sorted(names) != list(range(outputs)):
        raise BundleError(f"{source}: label2id names {len(names)} labels, but the head has {outputs} outputs")
    return tuple(names[index] for index in range(outputs))


def task_info_of(task: str, labels: tuple[str, ...], columns: tuple[str, ...]) -> TaskSpec:
    """What a bundle says of the task: GLUE's columns and metrics where it is one of theirs.

    Args:
        task: its name.
        labels: as the checkpoint has them, in the order of the logits.
        columns: text columns, of a task that is not known by name; empty for one that is called ``text``.
    """
    known = TASKS.get(task)
    if known is not None and set(known.labels) == set(labels) and not columns:
        return replace(known, labels=labels)
    kind = PROBLEMS["classification" if labels else "regression"]
    return TaskSpec(task, columns or ("text",), problem=kind.name, labels=labels, metrics=kind.metrics[:1])
