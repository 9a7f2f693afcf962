"""Logits to answers."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import TaskInfo


@dataclass(frozen=True)
class Prediction:
    """The answer for one row.

    Attributes:
        label: the likeliest label; None for regression.
        score: its probability in [0, 1]; for regression the predicted value.
        scores: probability of every label, in the task's order; empty for regression.
    """

    label: str | None
    score: float
    scores: dict[str, float]


def prediction_of(logits: NDArray[np.float32], info: TaskInfo) -> Prediction:
    """The answer that logits ``[outputs]`` of one row give; probabilities by softmax."""
    if info.problem == "regression":
        return Prediction(None, float(logits[0]), {})
    probabilities = _softmax(logits.astype(np.float64))
    best = int(probabilities.argmax())
    scores = dict(zip(info.labels, probabilities.tolist(), strict=True))
    return Prediction(info.labels[best], float(probabilities[best]), scores)


def _softmax(logits: NDArray[np.float64]) -> NDArray[np.float64]:
    powers = np.exp(logits - logits.max())
    probabilities: NDArray[np.float64] = powers / powers.sum()
    return probabilities
