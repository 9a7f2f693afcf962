"""Logits to answers."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import TaskInfo
from propetl.bundle.text import NO_CLASS, NO_VALUE
from propetl.bundle.words import word_spans


@dataclass(frozen=True)
class TaggedWord:
    """One word of a text and its tag.

    Attributes:
        word: as it stands in the text.
        start: its first character's place in the text.
        end: the place behind its last.
        tag: the likeliest; None where the word has no token: it was cut off, or the tokenizer reads nothing of it.
        score: the tag's probability in [0, 1]; None without a tag.
        scores: probability of every tag, in the task's order; empty without a tag.
    """

    word: str
    start: int
    end: int
    tag: str | None
    score: float | None
    scores: dict[str, float]


@dataclass(frozen=True)
class Prediction:
    """The answer for one row.

    Attributes:
        label: the likeliest label; None for regression, tags, and a generated answer that is no label.
        score: its probability in [0, 1]; for regression the predicted value; None for tags, and where the answer was
            generated and is no value.
        scores: probability of every label, in the task's order; empty for regression, tags and generated answers.
        generated: the answer as it was generated; None where it was not.
        words: the words of the text in their order, where the task tags.
    """

    label: str | None
    score: float | None
    scores: dict[str, float]
    generated: str | None = None
    words: tuple[TaggedWord, ...] = ()


def prediction_of(logits: NDArray[np.float32], info: TaskInfo) -> Prediction:
    """The answer that logits ``[outputs]`` of one row give; probabilities by softmax."""
    if info.problem == "regression":
        return Prediction(None, float(logits[0]), {})
    return Prediction(*_likeliest(logits, info.labels))


def prediction_of_words(text: str, logits: NDArray[np.float32], info: TaskInfo) -> Prediction:
    """The tags that logits ``[words, tags]`` give the words of ``text``; a word whose logits are NaN has none."""
    tagged = []
    for (start, end), row in zip(word_spans(text), logits, strict=True):
        answer = (None, None, {}) if np.isnan(row).all() else _likeliest(row, info.labels)
        tagged.append(TaggedWord(text[start:end], start, end, *answer))
    return Prediction(None, None, {}, words=tuple(tagged))


def prediction_of_text(generated: str, info: TaskInfo) -> Prediction:
    """The answer that a generated text gives: the label or the value it spells, both None where it spells neither."""
    assert info.text is not None
    answer = info.text.answer(generated)
    label = info.labels[int(answer)] if info.text.words and answer != NO_CLASS else None
    score = float(answer) if info.text.step is not None and answer != NO_VALUE else None
    return Prediction(label, score, {}, generated)


def _likeliest(logits: NDArray[np.float32], labels: Sequence[str]) -> tuple[str, float, dict[str, float]]:
    """Label, its probability, and that of every label."""
    probabilities = _softmax(logits.astype(np.float64))
    best = int(probabilities.argmax())
    scores = dict(zip(labels, probabilities.tolist(), strict=True))
    return labels[best], float(probabilities[best]), scores


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities
