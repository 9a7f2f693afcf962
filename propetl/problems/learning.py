"""The part of a problem that training needs: its labels, rows as tokens, loss, and metrics."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ConfigurationError, TaskError
from propetl.problems.answering import Answering

if TYPE_CHECKING:
    from torch import Tensor

    from propetl.bundle.text import TextInfo
    from propetl.data.columns import Cells
    from propetl.data.label_values import LabelValue
    from propetl.data.table import Table
    from propetl.data.tables import Label, RawLabel, Rows
    from propetl.data.tokenise import EncodedRows
    from propetl.families import Family
    from propetl.model import ProPETLModel
    from propetl.prototypes.effective import EffectiveWeights
    from propetl.prototypes.layout import TaskLayout
    from propetl.runtime.tokenise import Tokeniser

    Inputs = Mapping[str, Tensor]
    from propetl.task import TaskSpec


Decode = Callable[[list[list[int]]], list[str]]
"""Rows of token ids to texts."""


Places = Sequence[NDArray[np.int64]] | None
"""Places of the first token of each word, for every row; None for a task that answers no words."""

Answers = Sequence[Any] | NDArray[Any]
"""One for each row."""


class Learning(Answering):
    """How a task is learned.

    Attributes:
        metrics: those that fit; the first is the default.
        names_labels: whether a task names the labels that a row can have.
        label_type: of an array of labels.
        keys: further keys of a task of one's own in a configuration.
        defaults: values of such a task's keys.
    """

    metrics: tuple[str, ...]
    names_labels: bool = True
    label_type: Any = object
    keys: tuple[str, ...] = ()
    defaults: ClassVar[Mapping[str, str]] = {}

    # A task's description.

    def labels_as(self, text: "TextInfo | None") -> "Learning":
        """The kind by whose rules labels are read and scored: text may spell the classes or values of another."""
        return self

    def main_metric(self, labels: Sequence[str]) -> str:
        """The main metric where none is given."""
        return self.metrics[0]

    def check_metrics(self, task: "TaskSpec") -> None:
        """Raises ValueError where a metric does not fit the labels."""

    def asked(self, task: str, columns: Sequence[str], labels: Sequence[str], given: Mapping[str, Any]) -> Any:
        """The ``text`` of a task of one's own, from its values for :attr:`keys`; None with a head."""
        return None

    def as_text(self, task: "TaskSpec") -> "TaskSpec":
        """``task`` with its answers generated, for a backbone without heads."""
        from propetl.data.as_text import generated

        return generated(task)

    def fitted(self, task: "TaskSpec", labels: NDArray[Any], tokenizer: "Tokeniser", *, continues: bool) -> "TaskSpec":
        """``task`` as ``tokenizer`` can ask it and write its answers, which may continue the prompt.

        ``labels`` ``[n]`` are those of its rows; empty where none are known yet.
        """
        return task

    def check_backbone(self, task: str, family: "Family", layout: "TaskLayout") -> None:
        """Refuses a backbone without what answers, or a method that would train nothing.

        Raises:
            ConfigurationError: naming the task.
        """
        if not family.takes_heads:
            raise self.other_backbone(task, family)

    def other_backbone(self, task: str, family: "Family") -> ConfigurationError:
        """The error that asks for another backbone."""
        how = "answers in text" if family.generates else "does not generate"
        return ConfigurationError(
            f"task {task!r} is a problem of kind {self.name}, but {family.name} {how}; "
            "choose another backbone or problem"
        )

    def check_generates(self, task: str) -> None:
        """Raises :class:`TaskError` where ``task``, of this kind, generates nothing."""
        raise TaskError(f"task {task!r} is a {self.name}: it has logits, and generates nothing")

    # Rows.

    def read_row(
        self, task: "TaskSpec", table: "Table", row: "Cells", known: Sequence[str]
    ) -> "tuple[tuple[str, ...], RawLabel]":
        """Texts and label of a row of a file; ``known`` are spellings of labels.

        Raises:
            DataError: one of them cannot be used.
        """
        from propetl.data.cell_values import text_in

        texts = tuple(text_in(table, row.record, value) for value in row.texts)
        return texts, self.labels_as(task.text).read_label(table, row, known)

    def read_label(self, table: "Table", row: "Cells", known: Sequence[str]) -> "float | str | LabelValue":
        """The label of a row; a class stays as it is written until all rows are read."""
        from propetl.data.cell_values import label_in

        return label_in(table, row, known)

    def any_label(self, task: "TaskSpec", texts: tuple[str, ...]) -> "Label":
        """A label that a row can have which comes without one."""
        return 0

    def given_label(self, task: "TaskSpec", texts: tuple[str, ...], label: Any, where: str) -> "Label":
        """The label of a row in memory; ``where`` names the row for errors.

        Raises:
            DataError: it cannot be the label of ``texts``.
        """
        from propetl.data.in_memory import class_given

        return class_given(task, label, where)

    def encode(
        self, rows: "Rows", task: "TaskSpec", tokenizer: "Tokeniser", max_length: int, *, continues: bool
    ) -> "EncodedRows":
        """Rows as token ids with their targets; ``continues`` where an answer continues its prompt."""
        from propetl.data.tokenise import encode_rows

        return encode_rows(rows, tokenizer, max_length)

    # The model.

    def states(self, model: "ProPETLModel", weights: "EffectiveWeights | None", inputs: "Inputs") -> "Tensor":
        """Hidden states that the head reads: ``[batch, hidden]``, or ``[batch, seq, hidden]``."""
        return model.pooled_state(weights, inputs)

    def forward(
        self, model: "ProPETLModel", task: str, weights: "EffectiveWeights", inputs: "Inputs", labels: "Tensor | None"
    ) -> "Tensor":
        """Logits of a batch, which :meth:`summed_loss` holds against ``labels``."""
        return model.head_logits(task, weights, inputs)

    def summed_loss(self, logits: "Tensor", labels: "Tensor", smoothing: float) -> "Tensor":
        """Cross-entropy summed over :meth:`targets`; ``smoothing`` is spread over all classes."""
        from torch.nn import functional

        return functional.cross_entropy(logits, labels, label_smoothing=smoothing, reduction="sum")

    def targets(self, labels: "Tensor") -> int:
        """How many losses a batch with ``labels`` has."""
        return len(labels)

    # Evaluation.

    def answers(self, model: Any, task: str, inputs: "Inputs", places: Places, decode: Decode) -> list[Any]:
        """PyTorch's answer to each row of a batch, in the form that a session gives.

        Args:
            model: a :class:`ProPETLModel`, or one that wraps it.
            task: its name.
            inputs: of the batch.
            places: of words.
            decode: tokens to texts.
        """
        return list(model(task=task, **inputs).logits.float().cpu().numpy())

    def together(self, answers: Sequence[Any]) -> Any:
        """Answers of all rows in the form that a session gives."""
        return np.asarray(answers)

    def scored(self, task: "TaskSpec", answers: Answers, labels: NDArray[Any]) -> NDArray[Any]:
        """Predictions that metrics take for ``answers`` to rows that have ``labels``: an array ``[rows, ...]``."""
        return np.asarray(answers)
