"""Each word of a row is of one of several classes, its tag."""

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from propetl.bundle.words import in_one_array, word_spans
from propetl.errors import ConfigurationError
from propetl.problems.problem import Column, Problem, number, numbers

if TYPE_CHECKING:
    from propetl.bundle.format import TaskInfo
    from propetl.runtime.forms import BoundTask, Logits
    from propetl.runtime.logits_reader import LogitsReader, Texts
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.rows import Text


class Tagging(Problem):
    """A head gives a logit for each tag at every token; a word's are those at its first token."""

    name = "tagging"
    at = "token"

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
        self,
        reader: "LogitsReader",
        generated: "Callable[[Texts], list[str]]",
        bound: "BoundTask",
        texts: "Texts",
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

    def prediction(self, task: "TaskInfo", answer: Any, text: "Text" = "") -> "Prediction":
        """The words of ``text`` with their tags; a word whose logits are NaN has none."""
        from propetl.runtime.prediction import TaggedText, TaggedWord, likeliest

        only = text if isinstance(text, str) else text[0]
        tagged = []
        for (start, end), row in zip(word_spans(only), answer, strict=True):
            said = (None, None, {}) if np.isnan(row).all() else likeliest(row, task.labels)
            tagged.append(TaggedWord(only[start:end], start, end, *said))
        return TaggedText(None, None, {}, words=tuple(tagged))

    def columns(self, task: "TaskInfo", scores: bool) -> list[Column]:
        """Words and tags."""
        shown = task.labels if scores else ()
        return [Column("word"), Column("tag", "bold green"), *numbers("score", *shown)]

    def lines(self, task: "TaskInfo", prediction: "Prediction", scores: bool) -> list[list[str]]:
        """A line for each word."""
        shown = task.labels if scores else ()
        return [
            [word.word, word.tag or "–", *map(number, (word.score, *(word.scores.get(name) for name in shown)))]
            for word in prediction.words
        ]
