"""What a loop needs of a model: scores of the next token, and rows of its cache picked and put in order."""

from typing import Protocol

import numpy as np
from numpy.typing import NDArray

Tokens = NDArray[np.int64]
Scores = NDArray[np.float32]


class Steps(Protocol):
    """One generation under way over a batch; it keeps the cache of keys and values."""

    def prompt(self) -> Tokens:
        """Tokens that stand before the first generated one, int64 ``[rows, length]``, padded in front."""

    def first(self) -> Scores:
        """Logits ``[rows, vocabulary]`` of the first token."""

    def after(self, tokens: Tokens) -> Scores:
        """Logits ``[rows, vocabulary]`` of the token that follows ``tokens``, int64 ``[rows]``."""

    def select(self, rows: Tokens) -> None:
        """Goes on with the rows at these places, int64: in another order, fewer, or some of them more than once."""
