"""What a task is, from a configuration to the device: its columns, labels, metrics and problem. Loads no torch."""

import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from typing import Any

from propetl import fields
from propetl.bundle.template import parts_of
from propetl.bundle.text import TextInfo, text_info
from propetl.errors import ConfigurationError, TaskError
from propetl.problems import PROBLEMS, Problem
from propetl.problems.learning import Learning

_NAME = re.compile(r"[a-z0-9][a-z0-9_.-]{0,63}")
_WHOLE = re.compile(r"(-?[0-9]+)\.0+")


def check_task_name(name: object) -> str:
    """``name`` if it can be a task's: it becomes a file name, so it is held to a few characters."""
    if not isinstance(name, str) or not _NAME.fullmatch(name) or ".." in name:
        allowed = "use 1-64 of a-z, 0-9, '_', '-', '.', starting with a letter or digit"
        raise TaskError(f"task name {fields.shown(name)}: {allowed}")
    if name.endswith(".samples"):
        raise TaskError(f"task name {name!r}: '.samples' at the end marks sample rows; choose another name")
    return name


def plain(text: str) -> str:
    """A label without blanks around it; a whole number without ``.0``, which pandas writes where a column had gaps."""
    text = text.strip()
    whole = _WHOLE.fullmatch(text)
    return whole[1] if whole else text


@dataclass(frozen=True)
class TaskSpec:
    """One task over one or two text columns, or over any number that a template or a prompt joins.

    Attributes:
        name: ``[a-z0-9][a-z0-9_.-]*``, at most 64 characters; also a folder's and a file's name. Not compared: bundles
            and artifacts list tasks by name.
        columns: the text column, the two of a sentence pair, or those of the template; of a tagging, the one of the
            words.
        label_column: the column of the label, of the words' tags, or of the text that is to be generated.
        problem: a key of :data:`propetl.problems.PROBLEMS`.
        labels: the class names or tags in the order of the logits; empty for regression, and for text that names no
            class.
        metrics: those that fit the problem; the first is the one that picks the best checkpoint.
        label_values: raw value in the file -> class index; where empty, files hold class names or class indices, one
            of the two.
        alternatives: other sets of columns that hold the same, tried in turn where ``columns`` is absent.
        language: tasks of one language share its mask, where the prototype has hybrid masks; None without.
        text: how a problem ``text`` is asked and answered; None for the others.
        delimiter: between the fields of ``.csv`` and ``.tsv`` files; None to find it.
        template: how the columns become one text, as in :mod:`propetl.bundle.template`; None where they stay apart.
        scores: what training measured on the development rows.

    Raises:
        ConfigurationError: where these do not fit together.
    """

    name: str = field(compare=False)
    columns: tuple[str, ...]
    label_column: str = "label"
    problem: str = "classification"
    labels: tuple[str, ...] = ()
    metrics: tuple[str, ...] = ("accuracy",)
    label_values: Mapping[str, int] = field(default_factory=dict, hash=False)
    alternatives: tuple[tuple[str, ...], ...] = ()
    language: str | None = None
    text: TextInfo | None = None
    delimiter: str | None = None
    template: str | None = None
    scores: dict[str, float] = field(default_factory=dict, hash=False)

    def __post_init__(self) -> None:
        try:
            check_task_name(self.name)
        except TaskError as error:
            raise ConfigurationError(str(error)) from error
        try:
            self._check()
        except ValueError as error:
            raise ConfigurationError(f"task {self.name!r}: {error}") from error

    @property
    def kind(self) -> Problem:
        """Its kind of problem, which knows everything that differs between kinds."""
        return PROBLEMS[self.problem]

    @property
    def asks(self) -> Learning:
        """The kind of problem by whose rules labels are read, whatever says them: generated text may spell classes."""
        return self.kind.labels_as(self.text)

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.metrics[0]

    @property
    def outputs(self) -> int:
        """Width of the head's logits; 0 for text, which has no head of its own."""
        return self.kind.outputs(self)

    def head_kind(self, kind: str) -> str:
        """The task's kind of head in a bundle of ``kind``."""
        return self.kind.head_kind(kind)

    def allowed(self) -> str:
        """The labels a file may hold, for a message."""
        raw = {index: value for value, index in self.label_values.items()}
        shown = [f"{raw.get(index, index)} ({name})" for index, name in enumerate(self.labels[:10])]
        return ", ".join(shown) + (", ..." if len(self.labels) > 10 else "")

    @classmethod
    def from_mapping(cls, name: str, mapping: object) -> "TaskSpec":
        """Read a task of the user's own from a configuration.

        Keys: ``columns`` (a name or a list of one or two, or of more with a ``template`` that joins them), ``label``
        (the label column, default "label"),
        ``problem`` (default ``classification``), ``labels`` (a list of class names, or raw value: class
        name), ``metrics`` (a name or a list, main metric first), ``delimiter`` (of CSV files), ``language`` (whose mask
        it shares); for problem ``text`` also the fields of :class:`TextInfo`.

        Raises:
            ConfigurationError: a key is unknown or missing, or a value is of the wrong kind.
        """
        from propetl.data.own_task import own_task

        return own_task(name, mapping)

    @classmethod
    def from_json(cls, name: str, value: Any) -> "TaskSpec":
        """Inverse of :meth:`to_json`; lists become tuples, and keys that are none of its own are passed over.

        Raises:
            ValueError: a key is missing or of another kind.
            ConfigurationError: values do not fit together.
        """
        given = fields.entries(value, "task")
        alternatives = fields.items(given.get("alternatives", []), "alternatives")
        return cls(
            name=name,
            problem=fields.one_of(tuple(PROBLEMS), fields.need(given, "problem"), "problem"),
            labels=fields.texts(fields.need(given, "labels"), "labels"),
            columns=fields.texts(fields.need(given, "columns"), "columns"),
            metrics=fields.texts(fields.need(given, "metrics"), "metrics"),
            scores=fields.each(fields.number, given.get("scores", {}), "scores"),
            label_column=fields.text(given.get("label_column", "label"), "label_column"),
            label_values=fields.each(fields.whole, given.get("label_values", {}), "label_values"),
            alternatives=tuple(fields.texts(columns, "alternatives") for columns in alternatives),
            language=fields.optional(fields.text, given.get("language"), "language"),
            text=None if given.get("text") is None else text_info(given["text"]),
            template=fields.optional(fields.text, given.get("template"), "template"),
            delimiter=fields.optional(fields.text, given.get("delimiter"), "delimiter"),
        )

    def to_json(self) -> dict[str, Any]:
        """As bundles and artifacts write it, under its name."""
        value = asdict(self)
        del value["name"]
        return value

    def _check(self) -> None:
        """Refuses what does not fit together, as a ValueError that says what to write."""
        if self.problem not in PROBLEMS:
            raise ValueError(f"problem is {self.problem!r}: use one of {', '.join(PROBLEMS)}")
        self.kind.check_text(self)
        self._check_columns()
        self._check_labels()
        self._check_metrics()

    def _check_columns(self) -> None:
        for columns in (self.columns, *self.alternatives):
            if len({*columns, self.label_column}) != len(columns) + 1:
                raise ValueError(
                    f"columns {list(columns)} and label column {self.label_column!r} "
                    "cannot be used: give text columns and a label column, all different"
                )
            if len(columns) != len(self.columns):
                raise ValueError(f"alternatives need {len(self.columns)} column(s) each")
        if self.template is not None:
            parts_of(self.template, self.columns)
        self.kind.check_columns(self, 1 if self.template is not None else len(self.columns))

    def _check_labels(self) -> None:
        if not self.asks.names_labels:
            if self.labels or self.label_values:
                raise ValueError(f"a {self.asks.name} has no labels: remove them")
        elif not self.labels or len(set(self.labels)) != len(self.labels):
            raise ValueError(f"labels are {list(self.labels)}: a {self.asks.name} needs two or more, all different")
        self._check_spellings()
        if len({plain(raw) for raw in self.label_values}) < len(self.label_values):
            raw = ", ".join(map(repr, self.label_values))
            raise ValueError(f"labels map one value twice among {raw} (1.0 is 1)")
        if self.label_values and set(self.label_values.values()) != set(range(len(self.labels))):
            raise ValueError("label_values has to reach each of the labels, and no others")

    def _check_spellings(self) -> None:
        """Refuses class names that differ in spelling alone: a file could mean either."""
        first: dict[str, str] = {}
        for label in self.labels:
            spelling = _composed(plain(label)).casefold()
            if spelling in first:
                raise ValueError(
                    f"labels {first[spelling]!r} and {label!r} differ only in case, blanks or "
                    "spelling: rename one (value: name maps what files hold)"
                )
            first[spelling] = label

    def _check_metrics(self) -> None:
        fitting = self.asks.metrics
        wrong = [metric for metric in self.metrics if metric not in fitting]
        if wrong or not self.metrics or len(set(self.metrics)) != len(self.metrics):
            from propetl.nearest import did_you_mean

            raise ValueError(
                f"metrics are {list(self.metrics)}: "
                f"a {self.asks.name} takes one or more of {', '.join(fitting)}, each once"
                f"{did_you_mean(wrong[0], fitting) if wrong else ''}"
            )
        self.asks.check_metrics(self)


def _composed(text: str) -> str:
    """Letters and their accents as one character each."""
    if text.isascii():
        return text
    from unicodedata import normalize  # here: a device imports it for labels beyond ASCII alone

    return normalize("NFC", text)
