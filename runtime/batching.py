"""Rows to batches: of like length, so that little is padding; answers go back in the order of the rows."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.tokenise import Tokeniser, TokenRow

Feeds = dict[str, NDArray[np.int64]]


@dataclass(frozen=True)
class Batch:
    """Some rows of a call.

    Attributes:
        rows: their places in the call, int64 ``[batch]``.
        feeds: token inputs int64 ``[batch, sequence]``.
    """

    rows: NDArray[np.int64]
    feeds: Feeds


def batches_of_token_rows(rows: Sequence[TokenRow], tokeniser: Tokeniser, batch_size: int) -> Iterator[Batch]:
    """Batches of at most ``batch_size`` rows, shortest first, each padded to its own longest row."""
    order = np.argsort([len(row) for row in rows], kind="stable")
    for start in range(0, len(order), batch_size):
        chosen = order[start : start + batch_size]
        yield Batch(chosen, tokeniser.pad([rows[index] for index in chosen]))


def batches_of_feeds(feeds: Feeds, batch_size: int) -> Iterator[Batch]:
    """Batches of at most ``batch_size`` rows of arrays that are padded already, in their order."""
    count = len(feeds["input_ids"])
    for start in range(0, count, batch_size):
        rows = np.arange(start, min(start + batch_size, count))
        yield Batch(rows, {name: tensor[start : start + batch_size] for name, tensor in feeds.items()})
