"""A row is answered by generated text, which may spell a class or a value."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from propetl.bundle.text import NO_CLASS, NO_VALUE, TextInfo
from propetl.errors import TaskError
from propetl.problems.problem import Column, Problem

if TYPE_CHECKING:
    from propetl.bundle.format import TaskInfo
    from propetl.runtime.cutting import Asked
    from propetl.runtime.forms import BoundTask, Logits
    from propetl.runtime.logits_reader import LogitsReader, Texts
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.rows import Text as Row


class Text(Problem):
    """No head: the backbone's own language model answers within a prompt."""

    name = "text"
    at = "text"

    def outputs(self, task: "TaskInfo") -> int:
        """No head."""
        return 0

    def described(self, task: "TaskInfo") -> str:
        """Classes and values by their names."""
        classes = f"{len(task.labels)} classes" if task.labels else "regression"
        return f"{classes}, as text" if task.labels or text_of(task).step is not None else "text"

    def source(self, task: "TaskInfo", texts: tuple[str, ...]) -> "Row | Asked":
        """The texts within the prompt."""
        from propetl.runtime.cutting import Asked

        return Asked(text_of(task).prompt, texts)

    def check_logits(self, task: str) -> None:
        """Refuses every task."""
        raise _no_logits(task)

    def run(self, reader: "LogitsReader", bound: "BoundTask", texts: "Texts") -> "Logits":
        """Refuses every task."""
        raise _no_logits(bound.name)

    def predictions(
        self,
        reader: "LogitsReader",
        generated: "Callable[[Texts], list[str]]",
        bound: "BoundTask",
        texts: "Texts",
    ) -> "list[Prediction]":
        """From the generated texts."""
        return [self.prediction(bound.info, answer) for answer in generated(texts)]

    def prediction(self, task: "TaskInfo", answer: Any, text: "Row" = "") -> "Prediction":
        """The text, and the label or the value that it spells; both None where it spells neither."""
        from propetl.runtime.prediction import GeneratedAnswer

        asked = text_of(task)
        meant = asked.answer(answer)
        label = task.labels[int(meant)] if asked.words and meant != NO_CLASS else None
        score = float(meant) if asked.step is not None and meant != NO_VALUE else None
        return GeneratedAnswer(label, score, {}, answer)

    def columns(self, task: "TaskInfo", scores: bool) -> list[Column]:
        """The text, and the label."""
        label = [Column("label")] if task.labels else []
        return [Column("generated", "bold green", folds=True), *label]

    def lines(self, task: "TaskInfo", prediction: "Prediction", scores: bool) -> list[list[str]]:
        """One line."""
        label = [prediction.label or "–"] if task.labels else []
        return [[prediction.generated or "", *label]]


def _no_logits(task: str) -> TaskError:
    return TaskError(f"task {task!r} answers in text and has no logits of its own; use generate or predict")


def text_of(task: "TaskInfo") -> TextInfo:
    """How a task of this kind is asked and answered."""
    assert task.text is not None  # checked when the task was read
    return task.text
