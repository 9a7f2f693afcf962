"""Rows of which an imported bundle keeps the token ids: a checkpoint has no data, and golden rows need some text."""

import numpy as np
from numpy.typing import NDArray

from propetl.backbone import Backbone
from propetl.runtime.rows import source_of
from propetl.task import TaskSpec
from propetl.training.tasks import tokenizer_of

_LEFT = (
    "The committee has not reached a decision yet.",
    "A man is playing a guitar on the street.",
    "It rained all night, but the river stayed low.",
    "Prices rose by three percent in March.",
)
_RIGHT = (
    "A decision was made by the committee.",
    "Somebody makes music outside.",
    "The river did not rise although it rained.",
    "In March, things became cheaper.",
)


def sample_rows(backbone: Backbone, info: TaskSpec, max_length: int) -> dict[str, NDArray[np.int64]]:
    """Token ids of a few sentences, or pairs of them, as the task asks them, by model input ``[rows, longest]``."""
    rows = list(zip(*[_LEFT, _RIGHT][: len(info.columns)], strict=True))
    texts = [row[0] if len(row) == 1 else (row[0], row[1]) for row in rows]
    return tokenizer_of(backbone).limited(max_length)([source_of(info, text) for text in texts])
