"""``bundle.json`` as dataclasses, and the tensor files' one-key metadata."""

import json
import re
from dataclasses import asdict, dataclass, field
from functools import partial
from typing import Any, TypeVar

from propetl import fields
from propetl.bundle.template import parts_of
from propetl.bundle.text import PLACE, TextInfo, text_info
from propetl.errors import BundleError, ProPETLError, TaskError
from propetl.files import records_of
from propetl.problems import PROBLEMS, Problem
from propetl.prototypes.layout import TaskLayout, layout_of
from propetl.prototypes.spec import PrototypeConfig

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

_TASK_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")


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


def check_task_name(name: object) -> str:
    """``name`` if it can be a task's: it becomes a file name, so it is held to a few characters."""
    if not isinstance(name, str) or not _TASK_NAME.fullmatch(name) or ".." in name:
        allowed = "use 1-64 of a-z, 0-9, '_', '-', '.', starting with a letter or digit"
        raise TaskError(f"task name {fields.shown(name)}: {allowed}")
    if name.endswith(".samples"):
        raise TaskError(f"task name {name!r}: '.samples' at the end marks sample rows; choose another name")
    return name


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

    def __post_init__(self) -> None:
        for key in ("name", "family", "fingerprint"):
            fields.text(getattr(self, key), f"backbone.{key}")
        fields.optional(fields.text, self.revision, "backbone.revision")
        fields.whole(self.parameters, "backbone.parameters", 1, fields.MOST_BYTES)
        for key in ("hidden_size", "layers"):
            fields.whole(getattr(self, key), f"backbone.{key}", 1)
        fields.whole(self.decoder_layers, "backbone.decoder_layers")
        for key in ("query_size", "key_value_size"):
            fields.optional(partial(fields.whole, smallest=1), getattr(self, key), f"backbone.{key}")

    @classmethod
    def from_json(cls, value: Any) -> "BackboneInfo":
        """Inverse of ``dataclasses.asdict``; what may be left out has a default."""
        needed = ("name", "revision", "family", "fingerprint", "parameters", "hidden_size", "layers")
        return cls(**fields.record(value, "backbone", needed, cls.__dataclass_fields__))

    def layout(self, config: PrototypeConfig) -> TaskLayout:
        """Names and shapes of every tensor that ``config`` needs on this backbone."""
        return layout_of(
            config, self.hidden_size, self.layers, self.decoder_layers, self.query_size, self.key_value_size
        )


@dataclass(frozen=True)
class TaskInfo:
    """One task of a bundle.

    Attributes:
        problem: ``classification`` or ``regression``; ``tagging`` where each word has a class, its tag; or ``text``
            where the answer is generated.
        labels: names in the order of the logits; empty for regression, and for text that names no class.
        columns: text columns: one, the two of a pair, or any number that ``template`` joins.
        metrics: names; the first is the main one.
        scores: what training measured on the development rows.
        label_column: column of the label in data files.
        label_values: raw value in data files to class; empty where files hold names or class indices.
        language: whose mask it shares with other tasks; None in a bundle without language masks.
        text: how it is asked and answered in text; None for other problems.
        template: how the columns become one text (see :mod:`propetl.bundle.template`); None where they stay apart.
        delimiter: between the fields of its ``.csv`` files; None where it is found.
    """

    problem: str
    labels: tuple[str, ...]
    columns: tuple[str, ...]
    metrics: tuple[str, ...]
    scores: dict[str, float] = field(default_factory=dict)
    label_column: str = "label"
    label_values: dict[str, int] = field(default_factory=dict)
    language: str | None = None
    text: TextInfo | None = None
    template: str | None = None
    delimiter: str | None = None

    @property
    def kind(self) -> Problem:
        """Its kind of problem, which knows everything that differs between kinds."""
        return PROBLEMS[self.problem]

    @property
    def outputs(self) -> int:
        """Width of the head's logits; 0 for text, which has no head of its own."""
        return self.kind.outputs(self)

    def head_kind(self, kind: str) -> str:
        """The task's kind of head in a bundle of ``kind``."""
        return self.kind.head_kind(kind)


@dataclass(frozen=True)
class BundleInfo:
    """``bundle.json``."""

    backbone: BackboneInfo
    prototype: PrototypeConfig
    head: str
    max_length: int
    tasks: dict[str, TaskInfo]
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
            "tasks": {name: asdict(task) for name, task in self.tasks.items()},
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


def _tasks_of(value: Any) -> dict[str, TaskInfo]:
    return {check_task_name(name): task_info(task) for name, task in fields.entries(value, "tasks").items()}


def task_info(value: Any) -> TaskInfo:
    """A :class:`TaskInfo` from JSON; lists become tuples, and keys that are none of its own are passed over.

    Raises:
        ValueError: a key is missing or of another kind, a problem is not known, or labels do not go with it.
    """
    given = fields.entries(value, "task")
    info = TaskInfo(
        problem=fields.one_of(tuple(PROBLEMS), fields.need(given, "problem"), "problem"),
        labels=fields.texts(fields.need(given, "labels"), "labels"),
        columns=fields.texts(fields.need(given, "columns"), "columns"),
        metrics=fields.texts(fields.need(given, "metrics"), "metrics"),
        scores=fields.each(fields.number, given.get("scores", {}), "scores"),
        label_column=fields.text(given.get("label_column", "label"), "label_column"),
        label_values=fields.each(fields.whole, given.get("label_values", {}), "label_values"),
        language=fields.optional(fields.text, given.get("language"), "language"),
        text=None if given.get("text") is None else text_info(given["text"]),
        template=fields.optional(fields.text, given.get("template"), "template"),
        delimiter=fields.optional(fields.text, given.get("delimiter"), "delimiter"),
    )
    _check_task_info(info)
    return info


def _check_task_info(info: TaskInfo) -> None:
    """Refuses what does not go together."""
    if info.problem == "regression" and info.labels:
        raise ValueError(f"a regression has no labels, found {fields.shown(info.labels)}")
    if info.problem in ("classification", "tagging") and not info.labels:
        raise ValueError(f"a {info.problem} has labels, found none")
    if len(set(info.labels)) < len(info.labels):
        raise ValueError(f"labels: each once, found {fields.shown(info.labels)}")
    if any(index >= len(info.labels) for index in info.label_values.values()):
        found = fields.shown(info.label_values)
        raise ValueError(f"label_values name a class beyond the {len(info.labels)} labels: {found}")
    if info.kind.answers_words and len(info.columns) != 1:
        raise ValueError(f"a tagging has one column of words, found {fields.shown(info.columns)}")
    check_columns(info.columns, info.template, info.text)
    if (info.problem == "text") != (info.text is not None):
        raise ValueError(f"problem is {info.problem}, and text is {info.text!r}: it goes with problem text alone")
    if info.text is not None and len(info.text.words) != len(info.labels):
        raise ValueError(f"text has {len(info.text.words)} words for {len(info.labels)} labels")


def check_columns(columns: tuple[str, ...], template: str | None, text: TextInfo | None) -> None:
    """Refuses more text columns than are tokenised, and a template or prompt that does not fit them.

    Raises:
        ValueError: saying what to write.
    """
    if template is not None:
        parts_of(template, columns)
    asked = 1 if template is not None else len(columns)
    if text is not None and text.prompt.count(PLACE) != asked:
        raise ValueError(f"prompt {text.prompt!r} needs {PLACE} once for each of its {asked} text columns")
    if text is None and not 1 <= asked <= 2:
        example = " ".join(f"{{{column}}}" for column in columns)
        hint = f", or join them (template: {example!r})" if columns else ""
        raise ValueError(f"columns {fields.shown(list(columns))} cannot be used: give one or two text columns{hint}")


def check_format(value: Any, name: str, version: int, source: str, error: type[ProPETLError]) -> None:
    """Refuses JSON that is of another format, or of a version this code does not know."""
    if not isinstance(value, dict) or value.get("format") != name:
        found = value.get("format") if isinstance(value, dict) else type(value).__name__
        raise error(f"{source}: expected format {name!r}, found {fields.shown(found)}")
    found = value.get("version")
    if type(found) is not int or found != version:
        known = f"is not known here (known: {version}); upgrade propetl"
        raise error(f"{source}: {name} version {fields.shown(found)} {known}")


def metadata(value: dict[str, Any]) -> dict[str, str]:
    """``value`` as safetensors metadata."""
    return {METADATA_KEY: json.dumps(value, ensure_ascii=False, separators=(",", ":"))}
