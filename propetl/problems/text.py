"""A row is answered by generated text, which may spell a class or a value."""

import json
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.text import NO_CLASS, NO_VALUE, PLACE, TextInfo, check_text_info
from propetl.errors import ConfigurationError, TaskError
from propetl.problems.answering import Generated
from propetl.problems.classification import CLASSIFICATION
from propetl.problems.learning import Answers, Decode, Learning, Places
from propetl.problems.regression import REGRESSION
from propetl.problems.token_targets import TokenTargets

if TYPE_CHECKING:
    from torch import Tensor

    from propetl.backbone import Backbone
    from propetl.data.columns import Cells
    from propetl.data.table import Table
    from propetl.data.tables import Rows
    from propetl.data.tokenise import EncodedRows
    from propetl.export.other_tools.peft_heads import PeftHead
    from propetl.families import Family
    from propetl.model import ProPETLModel
    from propetl.problems.learning import Inputs
    from propetl.problems.table import Column
    from propetl.prototypes.effective import EffectiveWeights
    from propetl.prototypes.layout import TaskLayout
    from propetl.runtime.cutting import Asked
    from propetl.runtime.forms import BoundTask, Logits
    from propetl.runtime.logits_reader import LogitsReader, Texts
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.report import Comparison
    from propetl.runtime.rows import Text as Row
    from propetl.runtime.session import Session
    from propetl.runtime.tokenise import Tokeniser
    from propetl.task import TaskSpec


class Text(TokenTargets):
    """No head: the backbone's own language model answers within a prompt."""

    name = "text"
    at = "text"
    metrics = ("rouge1", "rouge2", "rougeL", "rougeLsum", "bleu", "exact_match")
    names_labels = False
    keys = tuple(TextInfo.__dataclass_fields__)

    def check_text(self, task: "TaskSpec") -> None:
        """It has a text, with a word for each label."""
        if task.text is None:
            raise ValueError("problem text, and only that, says how its answers are made")
        check_text_info(task.text)
        if len(task.text.words) != len(task.labels):
            raise ValueError(f"{len(task.text.words)} words for {len(task.labels)} labels: give each label its word")

    def check_columns(self, task: "TaskSpec", asked: int) -> None:
        """The prompt has a place for each text."""
        prompt = text_of(task).prompt
        if prompt.count(PLACE) != asked:
            raise ValueError(f"prompt {prompt!r} needs {PLACE} once for each of its {asked} text columns")

    def outputs(self, task: "TaskSpec") -> int:
        """No head."""
        return 0

    def described(self, task: "TaskSpec") -> str:
        """Classes and values by their names."""
        classes = f"{len(task.labels)} classes" if task.labels else "regression"
        return f"{classes}, as text" if task.labels or text_of(task).step is not None else "text"

    def source(self, task: "TaskSpec", texts: tuple[str, ...]) -> "Row | Asked":
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
        self, reader: "LogitsReader", generated: Generated, bound: "BoundTask", texts: "Texts"
    ) -> "list[Prediction]":
        """From the generated texts."""
        return [self.prediction(bound.info, answer) for answer in generated(texts)]

    def prediction(self, task: "TaskSpec", answer: Any, text: "Row" = "") -> "Prediction":
        """The text, and the label or the value that it spells; both None where it spells neither."""
        from propetl.runtime.prediction import GeneratedAnswer

        asked = text_of(task)
        meant = asked.answer(answer)
        label = task.labels[int(meant)] if asked.words and meant != NO_CLASS else None
        score = float(meant) if asked.step is not None and meant != NO_VALUE else None
        return GeneratedAnswer(label, score, {}, answer)

    def columns(self, task: "TaskSpec", scores: bool) -> "list[Column]":
        """The text, and the label."""
        from propetl.problems.table import Column

        label = [Column("label")] if task.labels else []
        return [Column("generated", "bold green", folds=True), *label]

    def lines(self, task: "TaskSpec", prediction: "Prediction", scores: bool) -> list[list[str]]:
        """One line."""
        label = [prediction.label or "–"] if task.labels else []
        return [[prediction.generated or "", *label]]

    def labels_as(self, text: TextInfo | None) -> Learning:
        """Classes where labels have words, values where there is a step, else the text itself."""
        if text is None:
            return self
        return CLASSIFICATION if text.words else REGRESSION if text.step is not None else self

    def asked(self, task: str, columns: Sequence[str], labels: Sequence[str], given: Mapping[str, Any]) -> TextInfo:
        """Columns by their names, and classes by theirs."""
        from propetl.data.as_text import default_prompt

        return TextInfo(**{"prompt": default_prompt(task, tuple(columns)), "words": tuple(labels)} | dict(given))

    def as_text(self, task: "TaskSpec") -> "TaskSpec":
        """As it is."""
        return task

    def fitted(self, task: "TaskSpec", labels: NDArray[Any], tokenizer: "Tokeniser", *, continues: bool) -> "TaskSpec":
        """Its classes or values are generated no longer than the longest."""
        from propetl.data.answer_words import fitted_text

        return replace(task, text=fitted_text(task, labels, tokenizer, continues=continues))

    def check_backbone(self, task: str, family: "Family", layout: "TaskLayout") -> None:
        """It has to generate, and the method has to train more than a head."""
        if not family.generates:
            raise self.other_backbone(task, family)
        if not (layout.tensors or layout.config.specification.trains_backbone):
            method = layout.config.method
            raise ConfigurationError(
                f"task {task!r} has no head, so method {method} has nothing to train; choose another"
            )

    def check_generates(self, task: str) -> None:
        """It does."""

    def read_label(self, table: "Table", row: "Cells", known: Sequence[str]) -> str:
        """The text that is to be generated."""
        from propetl.data.cell_values import text_in

        return text_in(table, row.record, row.label)

    def any_label(self, task: "TaskSpec", texts: tuple[str, ...]) -> str:
        """Nothing."""
        return ""

    def given_label(self, task: "TaskSpec", texts: tuple[str, ...], label: Any, where: str) -> str:
        """A text."""
        from propetl.data.in_memory import text_given

        return text_given(task, label, where)

    def encode(
        self, rows: "Rows", task: "TaskSpec", tokenizer: "Tokeniser", max_length: int, *, continues: bool
    ) -> "EncodedRows":
        """The answer's tokens are targets."""
        from propetl.data.tokenise import encode_text_rows

        return encode_text_rows(rows, text_of(task), tokenizer, max_length, continues=continues)

    def forward(
        self, model: "ProPETLModel", task: str, weights: "EffectiveWeights", inputs: "Inputs", labels: "Tensor | None"
    ) -> "Tensor":
        """Logits of the answer's tokens; without labels, of its first token alone."""
        from propetl.generation import token_logits

        with model.running(weights):
            return token_logits(model.network, inputs, labels)

    def answers(self, model: Any, task: str, inputs: "Inputs", places: Places, decode: Decode) -> list[Any]:
        """Generated texts."""
        return decode(model.generate(task, inputs).tolist())

    def together(self, answers: Sequence[Any]) -> Any:
        """A list."""
        return list(answers)

    def scored(self, task: "TaskSpec", answers: Answers, labels: NDArray[Any]) -> NDArray[Any]:
        """Classes, values or texts."""
        text = text_of(task)
        dtype = object if self.labels_as(text) is self else None
        return np.array([text.answer(answer) for answer in answers], dtype=dtype)

    def ask(self, session: "Session", task: str, texts: "Sequence[Row]") -> Any:
        """Generated texts."""
        return session.generate(task, texts)

    def ask_mixed(self, session: "Session", rows: "Sequence[tuple[str, Row]]") -> Sequence[Any]:
        """Generated texts."""
        return [prediction.generated for prediction in session.predict_mixed(rows)]

    @property
    def compare(self) -> "Callable[..., Comparison]":
        """Text by text."""
        from propetl.runtime.report import compare_texts

        return compare_texts

    def transformers_files(self, backbone: "Backbone", task: "TaskSpec") -> Mapping[str, dict[str, Any]]:
        """The backbone's own, and how the task generates."""
        from propetl.generation import only_tokens

        text = text_of(task)
        tokens = only_tokens(backbone.model.generation_config, backbone.pad_token_id).to_diff_dict()
        wanted = tokens | {
            "max_new_tokens": text.max_target_length,
            "num_beams": text.num_beams,
            **({"length_penalty": text.length_penalty} if text.num_beams > 1 else {}),
        }
        return {"config.json": backbone.model.config.to_dict(), "generation_config.json": wanted}

    def peft_head(self, family: str, kind: str) -> "PeftHead":
        """The language model's own."""
        from propetl.export.other_tools.peft_heads import text_head

        return text_head(family)

    def load_arguments(self, task: "TaskSpec") -> str:
        """None."""
        return ""

    def tokenizer_arguments(self, task: "TaskSpec") -> str:
        """The prompt."""
        text = text_of(task)
        return json.dumps(text.source(["…"] * text.prompt.count(PLACE)), ensure_ascii=False)

    def use(self, task: "TaskSpec", head: "PeftHead") -> str:
        """Generation."""
        text = text_of(task)
        return f"answer = model.generate(**inputs, num_beams={text.num_beams}, max_new_tokens={text.max_target_length})"

    def meaning(self, task: "TaskSpec") -> str:
        """Prompt and words."""
        text = text_of(task)
        words = f" Answers: {json.dumps(text.words, ensure_ascii=False)}." if text.words else ""
        return f"Prompt: {json.dumps(text.prompt, ensure_ascii=False)}.{words}"


TEXT = Text()


def _no_logits(task: str) -> TaskError:
    return TaskError(f"task {task!r} answers in text and has no logits of its own; use generate or predict")


def text_of(task: "TaskSpec") -> TextInfo:
    """How a task of this kind is asked and answered."""
    assert task.text is not None  # checked when the task was read
    return task.text
