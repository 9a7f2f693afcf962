"""Each word of a row is of one of several classes, its tag."""

import re
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.words import at_words, in_one_array, tags_of, word_spans
from propetl.errors import ConfigurationError
from propetl.problems.answering import Generated
from propetl.problems.learning import Answers, Decode, Places
from propetl.problems.token_targets import TokenTargets

if TYPE_CHECKING:
    from torch import Tensor

    from propetl.data.columns import Cells
    from propetl.data.table import Table
    from propetl.data.tables import RawLabel, Rows
    from propetl.data.tokenise import EncodedRows
    from propetl.export.other_tools.peft_heads import PeftHead
    from propetl.model import ProPETLModel
    from propetl.problems.learning import Inputs
    from propetl.problems.table import Column
    from propetl.prototypes.effective import EffectiveWeights
    from propetl.runtime.forms import BoundTask, Logits
    from propetl.runtime.logits_reader import LogitsReader, Texts
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.rows import Text
    from propetl.runtime.tokenise import Tokeniser
    from propetl.task import TaskSpec


ENTITY_METRICS = ("entity_f1", "entity_precision", "entity_recall")
"""They need tags that name entities."""

_ENTITY_TAG = re.compile(r"O|[BIES]-.+", re.DOTALL)


def are_entity_tags(labels: Sequence[str]) -> bool:
    """Whether tags name entities (Ramshaw and Marcus 1995): ``O``, ``B-TYPE``, ``I-TYPE``, also ``E-`` and ``S-``."""
    return all(map(_ENTITY_TAG.fullmatch, labels)) and any(label != "O" for label in labels)


class Tagging(TokenTargets):
    """A head gives a logit for each tag at every token; a word's are those at its first token."""

    name = "tagging"
    at = "token"
    transformers_class = "ForTokenClassification"
    metrics = (*ENTITY_METRICS, "word_accuracy")
    defaults: ClassVar[Mapping[str, str]] = {"columns": "tokens", "label": "tags"}  # names that CoNLL's columns get

    def check_columns(self, task: "TaskSpec", asked: int) -> None:
        """It has one column of words."""
        if len(task.columns) != 1 or task.template is not None:
            raise ValueError("a tagging has one column, of words, and no template")

    def check_metrics(self, task: "TaskSpec") -> None:
        """Metrics of entities need tags that name some."""
        if {*ENTITY_METRICS} & {*task.metrics} and not are_entity_tags(task.labels):
            raise ValueError(
                f"metrics are {list(task.metrics)}, but labels do not name entities "
                "(O, B-TYPE, I-TYPE): use word_accuracy"
            )

    def head_kind(self, kind: str) -> str:
        """Every family tags by a linear map."""
        return "linear"

    def run(self, reader: "LogitsReader", bound: "BoundTask", texts: "Texts") -> "Logits":
        """Of texts those of words, of token ids those of tokens."""
        from propetl.runtime.rows import checked_texts

        if isinstance(texts, Mapping):
            return reader.tokens(bound, texts)
        return in_one_array(reader.words(bound, checked_texts(bound.name, bound.info, texts)))

    def logits(self, reader: "LogitsReader", bound: "BoundTask", texts: "Sequence[Text]") -> "Sequence[Logits]":
        """Of words."""
        return reader.words(bound, texts)

    def predictions(
        self, reader: "LogitsReader", generated: Generated, bound: "BoundTask", texts: "Texts"
    ) -> "list[Prediction]":
        """Answers with words, which token ids do not name."""
        from propetl.runtime.rows import checked_texts

        if isinstance(texts, Mapping):
            raise ConfigurationError(
                f"task {bound.name!r} tags words, which token ids name none; give texts, or use run"
            )
        rows = checked_texts(bound.name, bound.info, texts)
        answers = reader.words(bound, rows)
        return [self.prediction(bound.info, found, text) for text, found in zip(rows, answers, strict=True)]

    def prediction(self, task: "TaskSpec", answer: Any, text: "Text" = "") -> "Prediction":
        """The words of ``text`` with their tags; a word whose logits are NaN has none."""
        from propetl.runtime.prediction import TaggedText, TaggedWord, likeliest

        only = text if isinstance(text, str) else text[0]
        tagged = []
        for (start, end), row in zip(word_spans(only), answer, strict=True):
            said = (None, None, {}) if np.isnan(row).all() else likeliest(row, task.labels)
            tagged.append(TaggedWord(only[start:end], start, end, *said))
        return TaggedText(None, None, {}, words=tuple(tagged))

    def columns(self, task: "TaskSpec", scores: bool) -> "list[Column]":
        """Words and tags."""
        from propetl.problems.table import Column, numbers

        shown = task.labels if scores else ()
        return [Column("word"), Column("tag", "bold green"), *numbers("score", *shown)]

    def lines(self, task: "TaskSpec", prediction: "Prediction", scores: bool) -> list[list[str]]:
        """A line for each word."""
        from propetl.problems.table import number

        shown = task.labels if scores else ()
        return [
            [word.word, word.tag or "–", *map(number, (word.score, *(word.scores.get(name) for name in shown)))]
            for word in prediction.words
        ]

    def main_metric(self, labels: Sequence[str]) -> str:
        """Of entities where tags name them."""
        return self.metrics[0] if are_entity_tags(labels) else "word_accuracy"

    def as_text(self, task: "TaskSpec") -> "TaskSpec":
        """Refuses every task."""
        raise ConfigurationError(
            f"task {task.name!r} tags words, which an encoder-decoder has no head for; choose an encoder or a decoder"
        )

    def read_row(
        self, task: "TaskSpec", table: "Table", row: "Cells", known: Sequence[str]
    ) -> "tuple[tuple[str, ...], RawLabel]":
        """Words with blanks between them, and a tag for each."""
        from propetl.data.tagged import tagged_row

        text, tags = tagged_row(table, row, known)
        return (text,), tags

    def any_label(self, task: "TaskSpec", texts: tuple[str, ...]) -> tuple[str, ...]:
        """A tag for each word."""
        return (task.labels[0],) * len(word_spans(texts[0]))

    def given_label(self, task: "TaskSpec", texts: tuple[str, ...], label: Any, where: str) -> tuple[str, ...]:
        """A list of tags."""
        from propetl.data.in_memory import tags_given

        return tags_given(task, len(word_spans(texts[0])), label, where)

    def encode(
        self, rows: "Rows", task: "TaskSpec", tokenizer: "Tokeniser", max_length: int, *, continues: bool
    ) -> "EncodedRows":
        """A target at the first token of each word."""
        from propetl.data.tokenise import encode_tagged_rows

        return encode_tagged_rows(rows, task.labels, tokenizer, max_length)

    def states(self, model: "ProPETLModel", weights: "EffectiveWeights | None", inputs: "Inputs") -> "Tensor":
        """Every token's."""
        return model.token_states(weights, inputs)

    def answers(self, model: Any, task: str, inputs: "Inputs", places: Places, decode: Decode) -> list[Any]:
        """Logits of words."""
        from propetl.data.metrics import check_finite

        assert places is not None
        logits = model(task=task, **inputs).logits.float().cpu().numpy()
        check_finite(logits)
        return [at_words(row, here) for row, here in zip(logits, places, strict=True)]

    def together(self, answers: Sequence[Any]) -> Any:
        """NaN behind the last word of a row."""
        return in_one_array(answers)

    def scored(self, task: "TaskSpec", answers: Answers, labels: NDArray[Any]) -> NDArray[Any]:
        """A tuple of its words' tags for each row."""
        from propetl.data.tables import label_array

        words = (np.asarray(row)[: len(tags)] for row, tags in zip(answers, labels, strict=True))
        return label_array([tags_of(row, task.labels) for row in words])

    def peft_head(self, family: str, kind: str) -> "PeftHead":
        """A linear map at every token, which every family has."""
        from propetl.export.other_tools.peft_heads import token_head

        return token_head(family, kind)

    def use(self, task: "TaskSpec", head: "PeftHead") -> str:
        """Of tokens."""
        return "logits = model(**inputs).logits  # a word's are those of its first token"


TAGGING = Tagging()
