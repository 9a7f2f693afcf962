"""One sequence for each row: the best token each time, or one drawn by its probability."""

from collections.abc import Callable, Iterator

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.finite import check_scores
from propetl.runtime.generation.options import GenerationOptions, SpecialTokens
from propetl.runtime.generation.scores import Rules, log_softmax, warped
from propetl.runtime.generation.steps import Scores, Steps, Tokens

Pick = Callable[[Scores, Tokens], Tokens]
"""Chooses a token ``[running]`` by scores ``[running, vocabulary]`` of the rows at the places ``[running]``."""


def single_sequences(
    steps: Steps, options: GenerationOptions, special: SpecialTokens, places: Tokens
) -> Iterator[Tokens]:
    """Yields the next token of every row, int64 ``[rows]``; rows that have ended give the padding token.

    Rows that have ended are taken out of the batch when they are half of it or more.

    Args:
        steps: the model over the batch.
        options: how to choose.
        special: end and padding tokens.
        places: of the rows in the caller's order, int64 ``[rows]``: what their random numbers depend on.

    Raises:
        AnswerError: the model's scores of a row are not finite.
    """
    pick = _sampling(options, places) if options.sample else _greedy
    rules = Rules(options, special)
    history = steps.prompt()
    running = np.arange(len(history))  # rows that the model still computes
    open_rows = np.ones(len(history), dtype=bool)
    scores = steps.first()
    check_scores(scores, places, open_rows)
    for step in range(options.max_new_tokens):
        chosen = pick(rules.applied(scores, step, history[running]), running)
        tokens = np.full(len(history), special.pad, dtype=np.int64)
        tokens[running] = np.where(open_rows[running], chosen, special.pad)
        open_rows &= ~np.isin(tokens, special.ends)
        yield tokens
        if not open_rows.any() or step + 1 == options.max_new_tokens:
            return
        history = np.concatenate([history, tokens[:, None]], axis=1)
        running = _fewer(steps, running, open_rows)
        scores = steps.after(tokens[running])
        check_scores(scores, places[running], open_rows[running])


def _fewer(steps: Steps, running: NDArray[np.int64], open_rows: NDArray[np.bool_]) -> NDArray[np.int64]:
    """Rows to go on with: picking some copies their cache, so it waits until it halves the work."""
    left = np.flatnonzero(open_rows[running])
    if 2 * len(left) > len(running):
        return running
    steps.select(left)
    return running[left]


def _greedy(scores: Scores, running: Tokens) -> Tokens:
    best: Tokens = scores.argmax(axis=-1)
    return best


def _sampling(options: GenerationOptions, places: Tokens) -> Pick:
    randoms = [np.random.default_rng((options.seed, place)) for place in places.tolist()]

    def draw(scores: Scores, running: Tokens) -> Tokens:
        shares = np.exp(log_softmax(warped(scores, options)).astype(np.float64)).cumsum(axis=-1)
        drawn = [randoms[row].random() * share[-1] for row, share in zip(running.tolist(), shares, strict=True)]
        return np.array(
            [np.searchsorted(share, value, side="right") for share, value in zip(shares, drawn, strict=True)],
            dtype=np.int64,
        )

    return draw
