"""The part of a problem that a device needs: the shape of its logits, and from them to a line of JSON."""

from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any, Literal

from propetl import fields

if TYPE_CHECKING:
    from propetl.problems.table import Column
    from propetl.runtime.cutting import Asked
    from propetl.runtime.forms import BoundTask, Logits
    from propetl.runtime.logits_reader import LogitsReader, Texts
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.rows import Text
    from propetl.task import TaskSpec

Where = Literal["row", "token", "text"]
"""A head answers once for a row or at every token; without a head, the answer is generated text."""

Generated = Callable[[Any], list[str]]
"""Texts of a call to the text that is generated for each row."""


class Answering:
    """How rows are answered; methods as :class:`propetl.problems.problem.Problem` describes.

    Attributes:
        name: as configurations, bundles and artifacts write it.
        at: where it answers.
    """

    name: str
    at: Where = "row"

    # A task's description.

    def check_text(self, task: "TaskSpec") -> None:
        """Raises ValueError where ``text`` does not go with the problem."""
        if task.text is not None:
            raise ValueError("problem text, and only that, says how its answers are made")

    def check_columns(self, task: "TaskSpec", asked: int) -> None:
        """Raises ValueError where ``asked``, how many texts a row has once they are joined, cannot be tokenized."""
        if not 1 <= asked <= 2:
            example = " ".join(f"{{{column}}}" for column in task.columns)
            hint = f", or join them (template: {example!r})" if task.columns else ""
            raise ValueError(
                f"columns {fields.shown(list(task.columns))} cannot be used: give one or two text columns{hint}"
            )

    # The answer's shape.

    @property
    def axes(self) -> tuple[str, ...]:
        """Axes of a graph's logits before their width."""
        return ("batch", "sequence") if self.answers_words else ("batch",)

    @property
    def answers_words(self) -> bool:
        """Whether each word of a row has an answer, which stands at its first token."""
        return self.at == "token"

    def outputs(self, task: "TaskSpec") -> int:
        """Width of the head's logits; 0 without a head."""
        return max(1, len(task.labels))

    def head_kind(self, kind: str) -> str:
        """Kind of the task's head in a bundle whose heads are of ``kind``."""
        return kind

    def described(self, task: "TaskSpec") -> str:
        """In a few words, for a list of tasks."""
        return f"{len(task.labels)} classes"

    # On a device.

    def source(self, task: "TaskSpec", texts: tuple[str, ...]) -> "Text | Asked":
        """A row as it is tokenized; ``texts`` are those of its columns, or the one that a template makes of them."""
        return texts[0] if len(texts) == 1 else texts

    def check_logits(self, task: str) -> None:
        """Raises :class:`TaskError` where ``task``, of this kind, has no logits for a row."""

    def run(self, reader: "LogitsReader", bound: "BoundTask", texts: "Texts") -> "Logits":
        """Logits of all rows as one array: see :meth:`propetl.runtime.Session.run`."""
        return reader.rows(bound, texts)

    def logits(self, reader: "LogitsReader", bound: "BoundTask", texts: "Sequence[Text]") -> "Sequence[Logits]":
        """Logits of each row; the texts were checked."""
        return list(reader.rows(bound, texts))

    def predictions(
        self, reader: "LogitsReader", generated: Generated, bound: "BoundTask", texts: "Texts"
    ) -> "list[Prediction]":
        """The answer for each row.

        Args:
            reader: gives the logits of rows.
            generated: gives the generated text of rows.
            bound: the task.
            texts: as for :meth:`propetl.runtime.Session.predict`.
        """
        return [self.prediction(bound.info, row) for row in reader.rows(bound, texts)]

    def prediction(self, task: "TaskSpec", answer: Any, text: "Text" = "") -> "Prediction":
        """The answer for one row.

        Args:
            task: that was asked.
            answer: logits ``[outputs]``, those of words ``[words, outputs]``, or the generated text.
            text: the row.
        """
        from propetl.runtime.prediction import Prediction, likeliest

        return Prediction(*likeliest(answer, task.labels))

    # On a terminal.

    def columns(self, task: "TaskSpec", scores: bool) -> "list[Column]":
        """Columns of a table of answers, behind those of the texts; ``scores`` for every label's probability."""
        from propetl.problems.table import Column, numbers

        label = [Column("label", "bold green")] if task.labels else []
        return [*label, *numbers("score", *(task.labels if scores else ()))]

    def lines(self, task: "TaskSpec", prediction: "Prediction", scores: bool) -> list[list[str]]:
        """Cells of :meth:`columns` for one row, line by line."""
        from propetl.problems.table import number

        label = [] if prediction.label is None else [prediction.label]
        shown = [prediction.scores[name] for name in (task.labels if scores else ())]
        return [[*label, *map(number, (prediction.score, *shown))]]
