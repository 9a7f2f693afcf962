"""The reader of each key of ``artifact.json``."""

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

from propetl import fields
from propetl.bundle.format import BackboneInfo
from propetl.files import records_of
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.manifest import OPTIONAL, ArtifactTask, FormInfo
from propetl.task import TaskSpec, check_task_name

# Imported where an artifact has them: the first answer of a process waits for every import.
if TYPE_CHECKING:
    from propetl.runtime.engine_records import EngineInfo
    from propetl.runtime.generation.info import GenerationInfo
    from propetl.runtime.losses import Float16Range, Loss


def values_of(value: dict[str, Any]) -> dict[str, Any]:
    """The fields of a :class:`~propetl.runtime.manifest.Manifest` by name; further keys are passed over.

    Raises:
        ProPETLError: naming what cannot be.
        ValueError: a key is missing, of another kind or out of range.
    """
    given = {key: value.get(key) if key in OPTIONAL else fields.need(value, key) for key in _READERS}
    return {key: read(given[key], key) for key, read in _READERS.items()}


def _tasks_from(value: Any, key: str) -> dict[str, ArtifactTask]:
    return {check_task_name(name): _task_from(name, item) for name, item in fields.entries(value, key).items()}


def _task_from(name: str, value: Any) -> ArtifactTask:
    return ArtifactTask(TaskSpec.from_json(name, value), fields.text(fields.need(value, "pack"), "pack"))


def _generation_from(value: Any, key: str) -> "GenerationInfo":
    from propetl.runtime.generation.info import GenerationInfo

    return GenerationInfo.from_json(value)


def _engines_from(value: Any, key: str) -> "tuple[EngineInfo, ...]":
    if not fields.items(value, key):
        return ()
    from propetl.runtime.engine_records import EngineInfo

    return tuple(EngineInfo.from_json(item) for item in value)


def _float16_from(value: Any, key: str) -> "Float16Range":
    from propetl.runtime.losses import Float16Range

    return Float16Range.from_json(value)


def _losses_from(value: Any, key: str) -> "tuple[Loss, ...]":
    if not fields.items(value, key):
        return ()
    from propetl.runtime.losses import Loss

    return tuple(Loss.from_json(item) for item in value)


_READERS: dict[str, Callable[[Any, str], Any]] = {
    "operators": fields.text,
    "precision": fields.text,
    "opset": partial(fields.whole, smallest=1),
    "max_length": partial(fields.whole, smallest=1),
    "pad_token_id": fields.whole,
    "head": fields.text,
    "bundle_sha256": fields.text,
    "prototype_sha256": fields.text,
    "backbone": lambda value, key: BackboneInfo.from_json(value),
    "prototype": lambda value, key: PrototypeConfig.from_json(value),
    "tasks": _tasks_from,
    "forms": partial(fields.each, FormInfo.from_json),
    "tools": partial(fields.each, fields.text),
    "files": lambda value, key: records_of(value),
    "generation": partial(fields.optional, _generation_from),
    "golden": fields.text,
    "engines": _engines_from,
    "losses": _losses_from,
    "float16": partial(fields.optional, _float16_from),
}
