"""``bundle.json`` as dataclasses, and the tensor files' one-key metadata."""

import json
from dataclasses import asdict, dataclass
from functools import partial
from typing import Any, TypeVar

from propetl import fields
from propetl.errors import BundleError, ProPETLError
from propetl.files import records_of
from propetl.prototypes.layout import TaskLayout, layout_of
from propetl.prototypes.spec import PrototypeConfig
from propetl.task import TaskSpec, check_task_name

FORMAT = "propetl-bundle"
PACK_FORMAT = "propetl-task-pack"
VERSION = 1
MANIFEST = "bundle.json"
PROTOTYPE_FILE = "prototype.safetensors"
TOKENIZER_FOLDER = "tokenizer"
LINEAR, OWN = "linear", "own"
HEADS = (LINEAR, OWN)

# safetensors writes its metadata in the order of a hash map: one key keeps files identical byte for byte.
METADATA_KEY = "propetl"


Size = TypeVar("Size", int, str)


def head_shapes(kind: str, hidden: int, outputs: Size) -> dict[str, tuple[int | Size, ...]]:
    """Shapes of a head's tensors by name.

    Args:
        kind: one of :data:`HEADS`.
        hidden: width of the backbone.
        outputs: width of the logits, or the name of a width that is free.
    """
    shapes: dict[str, tuple[int | Size, ...]] = {"bias": (outputs,), "weight": (outputs, hidden)}
    own: dict[str, tuple[int | Size, ...]] = {"dense.bias": (hidden,), "dense.weight": (hidden, hidden)}
    return shapes | own if kind == "own" else shapes


def pack_path(task: str) -> str:
    """Where a task's pack stands in a bundle or an artifact."""
    return f"tasks/{check_task_name(task)}.safetensors"


def samples_path(task: str) -> str:
    """Where a task's sample rows stand in a bundle."""
    return f"tasks/{check_task_name(task)}.samples.safetensors"


@dataclass(frozen=True)
class BackboneInfo:
    """Which backbone a bundle was trained on.

    Attributes:
        name: how it was loaded: a hub name, a folder, or ``package:MODULE/FOLDER``.
        revision: of the hub's repository, or None.
        family: key of the family table, such as ``bert``.
        fingerprint: SHA-256 over the weights (see ``propetl.backbone.fingerprint``).
        parameters: weights in the backbone.
        hidden_size: width of its hidden states.
        layers: number of layers; of an encoder-decoder, those of the encoder.
        decoder_layers: layers of an encoder-decoder's decoder; 0 where there is one stack of layers.
        query_size: width of all heads' queries together; None where it is ``hidden_size``.
        key_value_size: the same of keys and of values; None where it is that of the queries.
        ffn_size: width of the FFN's inner values; None where layers differ in it.
    """

    name: str
    revision: str | None
    family: str
    fingerprint: str
    parameters: int
    hidden_size: int
    layers: int
    decoder_layers: int = 0
    query_size: int | None = None
    key_value_size: int | None = None
    ffn_size: int | None = None

    def __post_init__(self) -> None:
        for key in ("name", "family", "fingerprint"):
            fields.text(getattr(self, key), f"backbone.{key}")
        fields.optional(fields.text, self.revision, "backbone.revision")
        fields.whole(self.parameters, "backbone.parameters", 1, fields.MOST_BYTES)
        for key in ("hidden_size", "layers"):
            fields.whole(getattr(self, key), f"backbone.{key}", 1)
        fields.whole(self.decoder_layers, "backbone.decoder_layers")
        for key in ("query_size", "key_value_size", "ffn_size"):
            fields.optional(partial(fields.whole, smallest=1), getattr(self, key), f"backbone.{key}")

    @classmethod
    def from_json(cls, value: Any) -> "BackboneInfo":
        """Inverse of ``dataclasses.asdict``; what may be left out has a default."""
        needed = ("name", "revision", "family", "fingerprint", "parameters", "hidden_size", "layers")
        return cls(**fields.record(value, "backbone", needed, cls.__dataclass_fields__))

    def layout(self, config: PrototypeConfig) -> TaskLayout:
        """Names and shapes of every tensor that ``config`` needs on this backbone."""
        widths = (self.query_size, self.key_value_size, self.ffn_size)
        return layout_of(config, self.hidden_size, self.layers, self.decoder_layers, *widths)


@dataclass(frozen=True)
class BundleInfo:
    """``bundle.json``."""

    backbone: BackboneInfo
    prototype: PrototypeConfig
    head: str
    max_length: int
    tasks: dict[str, TaskSpec]
    files: dict[str, dict[str, Any]]
    created_by: str

    def __post_init__(self) -> None:
        self.backbone.layout(self.prototype)  # refuses a method that this backbone cannot have

    @property
    def layout(self) -> TaskLayout:
        """Names and shapes of every tensor that the method needs."""
        return self.backbone.layout(self.prototype)

    def to_json(self) -> dict[str, Any]:
        """As written to ``bundle.json``."""
        return {
            "format": FORMAT,
            "version": VERSION,
            "created_by": self.created_by,
            "backbone": asdict(self.backbone),
            "prototype": self.prototype.to_json(),
            "head": self.head,
            "max_length": self.max_length,
            "tasks": {name: task.to_json() for name, task in self.tasks.items()},
            "files": self.files,
        }

    @classmethod
    def from_json(cls, value: Any, source: str) -> "BundleInfo":
        """Parses what ``bundle.json`` holds; ``source`` names the file in errors."""
        check_format(value, FORMAT, VERSION, source, BundleError)
        try:
            return cls(
                backbone=BackboneInfo.from_json(fields.need(value, "backbone")),
                prototype=PrototypeConfig.from_json(fields.need(value, "prototype")),
                head=fields.one_of(HEADS, fields.need(value, "head"), "head"),
                max_length=fields.whole(fields.need(value, "max_length"), "max_length", 1),
                tasks=_tasks_of(fields.need(value, "tasks")),
                files=records_of(fields.need(value, "files")),
                created_by=fields.text(fields.need(value, "created_by"), "created_by"),
            )
        except ProPETLError as error:
            raise BundleError(f"{source}: {error}") from error
        except ValueError as error:
            raise BundleError(f"{source}: not a valid bundle manifest ({error}); restore it from its source") from error


def _tasks_of(value: Any) -> dict[str, TaskSpec]:
    found = fields.entries(value, "tasks")
    return {check_task_name(name): TaskSpec.from_json(name, task) for name, task in found.items()}


def check_format(
    value: Any, name: str, version: int, source: str, error: type[ProPETLError], remake: str = "make it again"
) -> None:
    """Refuses JSON that is of another format, or of a version this code does not know.

    ``remake`` says how a file of an older version is made again.
    """
    if not isinstance(value, dict) or value.get("format") != name:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise error(f"{source}: expected format {name!r}, found {fields.shown(found)}")
    found = value.get("version")
    if type(found) is not int or found != version:
        older = type(found) is int and 0 < found < version
        known = f"is not known here (known: {version}); {remake if older else 'upgrade propetl'}"
        raise error(f"{source}: {name} version {fields.shown(found)} {known}")


def metadata(value: dict[str, Any]) -> dict[str, str]:
    """``value`` as safetensors metadata."""
    return {METADATA_KEY: json.dumps(value, ensure_ascii=False, separators=(",", ":"))}
