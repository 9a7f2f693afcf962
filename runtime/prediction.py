"""Logits to answers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import TaskInfo
from propetl.bundle.text import NO_CLASS, NO_VALUE


@dataclass(frozen=True)
class Prediction:
    """The answer for one row.

    Attributes:
        label: the likeliest label; None for regression, and for a generated answer that is no label.
        score: its probability in [0, 1]; for regression the predicted value; None where the answer was generated and
            is no value.
        scores: probability of every label, in the task's order; empty for regression and generated answers.
        generated: the answer as it was generated; None where it was not.
    """

    label: str | None
    score: float | None
    scores: dict[str, float]
    generated: str | None = None


def prediction_of(logits: NDArray[np.float32], info: TaskInfo) -> Prediction:
    """The answer that logits ``[outputs]`` of one row give; probabilities by softmax."""
    if info.problem == "regression":
        return Prediction(None, float(logits[0]), {})
    probabilities = _softmax(logits.astype(np.float64))
    best = int(probabilities.argmax())
    scores = dict(zip(info.labels, probabilities.tolist(), strict=True))
    return Prediction(info.labels[best], float(probabilities[best]), scores)


def prediction_of_text(generated: str, info: TaskInfo) -> Prediction:
    """The answer that a generated text gives: the label or the value it spells, both None where it spells neither."""
    assert info.text is not None
    answer = info.text.answer(generated)
    label = info.labels[int(answer)] if info.text.words and answer != NO_CLASS else None
    score = float(answer) if info.text.step is not None and answer != NO_VALUE else None
    return Prediction(label, score, {}, generated)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities
