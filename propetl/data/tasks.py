"""What a task is: its columns, labels and metrics. The eight GLUE tasks stand in ``TASKS``."""

import unicodedata
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from propetl.bundle import format as bundle_format
from propetl.bundle.text import TextInfo, check_text_info
from propetl.data.label_values import plain
from propetl.data.tag_metrics import ENTITY_METRICS, are_entity_tags
from propetl.errors import ConfigurationError, TaskError
from propetl.nearest import did_you_mean
from propetl.problems import PROBLEMS, Problem
from propetl.problems.learning import Learning


@dataclass(frozen=True)
class TaskSpec:
    """One task over one or two text columns, or over any number that a template joins.

    Attributes:
        name: ``[a-z0-9][a-z0-9_.-]*``, at most 64 characters; also a folder's and a file's name.
        columns: the text column, the two of a sentence pair, or those of the template; of a tagging, the one of the
            words.
        label_column: the column of the label, of the words' tags, or of the text that is to be generated.
        problem: ``classification`` or ``regression``, answered by a head once for a row, ``tagging``, answered by a
            head for each word, or ``text``, answered by generating.
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

    Raises:
        ConfigurationError: where these do not fit together.
    """

    name: str
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

    def __post_init__(self) -> None:
        check_task_name(self.name)
        self._check_text()
        self._check_columns()
        self._check_labels()
        self._check_metrics()

    @property
    def metric(self) -> str:
        """The main metric."""
        return self.metrics[0]

    @property
    def kind(self) -> Problem:
        """Its kind of problem, which knows everything that differs between kinds."""
        return PROBLEMS[self.problem]

    @property
    def outputs(self) -> int:
        """How many logits a head for this task has; none for text."""
        return self.kind.outputs(self)

    @property
    def asks(self) -> Learning:
        """The kind of problem by whose rules labels are read, whatever says them: generated text may spell classes."""
        return self.kind.labels_as(self.text)

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

    def _check_columns(self) -> None:
        for columns in (self.columns, *self.alternatives):
            if len({*columns, self.label_column}) != len(columns) + 1:
                raise ConfigurationError(
                    f"task {self.name!r}: columns {list(columns)} and label column {self.label_column!r} "
                    "cannot be used: give text columns and a label column, all different"
                )
            if len(columns) != len(self.columns):
                raise ConfigurationError(f"task {self.name!r}: alternatives need {len(self.columns)} column(s) each")
        if self.problem == "tagging" and (len(self.columns) != 1 or self.template is not None):
            raise ConfigurationError(f"task {self.name!r}: a tagging has one column, of words, and no template")
        try:
            bundle_format.check_columns(self.columns, self.template, self.text)
        except ValueError as error:
            raise ConfigurationError(f"task {self.name!r}: {error}") from error

    def _check_text(self) -> None:
        if self.problem not in PROBLEMS:
            raise ConfigurationError(
                f"task {self.name!r}: problem is {self.problem!r}: use one of {', '.join(PROBLEMS)}"
            )
        if (self.problem == "text") != (self.text is not None):
            raise ConfigurationError(f"task {self.name!r}: problem text, and only that, says how its answers are made")
        if self.text is None:
            return
        try:
            check_text_info(self.text)
        except ValueError as error:
            raise ConfigurationError(f"task {self.name!r}: {error}") from error
        if len(self.text.words) != len(self.labels):
            raise ConfigurationError(
                f"task {self.name!r}: {len(self.text.words)} words for {len(self.labels)} labels: "
                "give each label its word"
            )

    def _check_labels(self) -> None:
        if not self.asks.names_labels:
            if self.labels or self.label_values:
                raise ConfigurationError(f"task {self.name!r}: a {self.asks.name} has no labels: remove them")
        elif len(self.labels) < 2 or len(set(self.labels)) != len(self.labels):
            raise ConfigurationError(
                f"task {self.name!r}: labels are {list(self.labels)}: "
                f"a {self.asks.name} needs two or more, all different"
            )
        self._check_spellings()
        if len({plain(raw) for raw in self.label_values}) < len(self.label_values):
            raw = ", ".join(map(repr, self.label_values))
            raise ConfigurationError(f"task {self.name!r}: labels map one value twice among {raw} (1.0 is 1)")
        if self.label_values and set(self.label_values.values()) != set(range(len(self.labels))):
            raise ConfigurationError(f"task {self.name!r}: label_values has to reach each of the labels, and no others")

    def _check_spellings(self) -> None:
        """Refuses class names that differ in spelling alone: a file could mean either."""
        first: dict[str, str] = {}
        for label in self.labels:
            spelling = unicodedata.normalize("NFC", plain(label)).casefold()
            if spelling in first:
                raise ConfigurationError(
                    f"task {self.name!r}: labels {first[spelling]!r} and {label!r} differ only in case, blanks or "
                    "spelling: rename one (value: name maps what files hold)"
                )
            first[spelling] = label

    def _check_metrics(self) -> None:
        fitting = self.asks.metrics
        wrong = [metric for metric in self.metrics if metric not in fitting]
        if wrong or not self.metrics or len(set(self.metrics)) != len(self.metrics):
            raise ConfigurationError(
                f"task {self.name!r}: metrics are {list(self.metrics)}: "
                f"a {self.asks.name} takes one or more of {', '.join(fitting)}, each once"
                f"{did_you_mean(wrong[0], fitting) if wrong else ''}"
            )
        if ENTITY_METRICS.keys() & set(self.metrics) and not are_entity_tags(self.labels):
            raise ConfigurationError(
                f"task {self.name!r}: metrics are {list(self.metrics)}, but labels do not name entities "
                "(O, B-TYPE, I-TYPE): use word_accuracy"
            )


def check_task_name(name: object) -> str:
    """Return ``name`` if a task may be called so: the rule is the bundle's.

    Raises:
        ConfigurationError: it may not.
    """
    try:
        return bundle_format.check_task_name(name)
    except TaskError as error:
        raise ConfigurationError(str(error)) from error


def _glue(
    name: str,
    hub_columns: tuple[str, ...],
    labels: tuple[str, ...],
    metrics: tuple[str, ...] = ("accuracy",),
) -> TaskSpec:
    columns = ("sentence1", "sentence2")[: len(hub_columns)]
    return TaskSpec(
        name=name,
        columns=columns,
        problem="classification" if labels else "regression",
        labels=labels,
        metrics=metrics,
        alternatives=() if hub_columns == columns else (hub_columns,),
    )


_PARAPHRASE = ("not_equivalent", "equivalent")
_ENTAILMENT = ("entailment", "not_entailment")

TASKS: dict[str, TaskSpec] = {
    spec.name: spec
    for spec in (
        _glue("cola", ("sentence",), ("unacceptable", "acceptable"), ("matthews",)),
        _glue("sst2", ("sentence",), ("negative", "positive")),
        _glue("mrpc", ("sentence1", "sentence2"), _PARAPHRASE, ("accuracy", "f1")),
        _glue("qqp", ("question1", "question2"), ("not_duplicate", "duplicate"), ("accuracy", "f1")),
        _glue("stsb", ("sentence1", "sentence2"), (), ("pearson", "spearman")),
        _glue("mnli", ("premise", "hypothesis"), ("entailment", "neutral", "contradiction")),
        _glue("qnli", ("question", "sentence"), _ENTAILMENT),
        _glue("rte", ("sentence1", "sentence2"), _ENTAILMENT),
    )
}
"""The GLUE tasks, named as on the hub; labels in GLUE's order (Wang et al. 2018, table 1)."""


def _is_as_known(known: TaskSpec, info: bundle_format.TaskInfo) -> bool:
    """Whether a bundle's task is GLUE's own, and none of the user's that is called so."""
    there = (info.labels, info.columns, info.label_column, info.template, info.delimiter)
    here = (known.labels, known.columns, known.label_column, known.template, known.delimiter)
    return there == here and not info.label_values


def spec_of(task: str, info: bundle_format.TaskInfo) -> TaskSpec:
    """The task's columns and labels: GLUE's where it is one of theirs, else as the bundle describes them."""
    known = TASKS.get(task)
    if known is not None and _is_as_known(known, info):
        return known if info.text is None else replace(known, problem="text", text=info.text)
    problem = info.problem
    return TaskSpec(
        task,
        info.columns,
        info.label_column,
        problem,
        info.labels,
        info.metrics,
        info.label_values,
        text=info.text,
        delimiter=info.delimiter,
        template=info.template,
    )
