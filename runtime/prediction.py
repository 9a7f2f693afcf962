"""Answers for one row: a class of answers for each set of keys that a line of JSON can have."""

from collections.abc import Sequence
from dataclasses import asdict, dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray


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

    def line(self, scores: bool) -> dict[str, Any]:
        """Keys of its line of JSON; ``scores`` adds the probability of every label."""
        value: dict[str, Any] = {"label": self.label, "score": self.score}
        return value | {"scores": self.scores} if scores else value


class GeneratedAnswer(Prediction):
    """The answer of a task that generates."""

    def line(self, scores: bool) -> dict[str, Any]:
        """With the text that was generated."""
        value = super().line(False) | {"generated": self.generated}
        return value | {"scores": self.scores} if scores else value


class TaggedText(Prediction):
    """The answer of a task that tags words."""

    def line(self, scores: bool) -> dict[str, Any]:
        """The words alone."""
        words = map(asdict, self.words)
        kept = [{name: item for name, item in word.items() if scores or name != "scores"} for word in words]
        return {"words": kept}


def likeliest(logits: NDArray[np.float32], labels: Sequence[str]) -> tuple[str, float, dict[str, float]]:
    """The likeliest label, its probability, and that of every label; by softmax over logits ``[labels]``."""
    probabilities = _softmax(logits.astype(np.float64))
    best = int(probabilities.argmax())
    scores = dict(zip(labels, probabilities.tolist(), strict=True))
    return labels[best], float(probabilities[best]), scores


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities
