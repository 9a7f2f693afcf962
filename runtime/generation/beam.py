"""Beam search: the best few sequences of each row grow together; the best one that has ended wins.

The order of the steps, and the constants, are those of transformers' ``_beam_search`` (version 5.23), so that the
same sequences come out.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.finite import check_scores
from propetl.runtime.generation.options import GenerationOptions, SpecialTokens
from propetl.runtime.generation.scores import Rules, log_softmax
from propetl.runtime.generation.steps import Scores, Steps, Tokens

_IMPOSSIBLE = np.float32(-1e9)


@dataclass(frozen=True)
class _Sequences:
    """Sequences with their scores.

    Attributes:
        tokens: generated so far, int64 ``[rows, sequences, step]``.
        scores: sums of log-probabilities; of ended sequences divided by the length's power. ``[rows, sequences]``.
        ended: bool ``[rows, sequences]``.
    """

    tokens: Tokens
    scores: Scores
    ended: NDArray[np.bool_]

    def best(self, count: int) -> tuple["_Sequences", Tokens]:
        """The ``count`` sequences of each row with the highest scores, best first, and their places."""
        places = np.argsort(-self.scores, axis=1, kind="stable")[:, :count]
        return self.at(places), places

    def at(self, places: Tokens) -> "_Sequences":
        """The sequences at ``places`` ``[rows, count]`` of each row."""
        return _Sequences(
            np.take_along_axis(self.tokens, places[:, :, None], axis=1),
            np.take_along_axis(self.scores, places, axis=1),
            np.take_along_axis(self.ended, places, axis=1),
        )


class _Search:
    """The state of one search."""

    def __init__(self, rows: int, options: GenerationOptions, special: SpecialTokens) -> None:
        self.options = options
        self.special = special
        beams = options.beams
        nothing = np.empty((rows, beams, 0), dtype=np.int64)
        none_ended = np.zeros((rows, beams), dtype=bool)
        # All beams begin alike: only the first may be continued, or they would stay so.
        scores = np.full((rows, beams), _IMPOSSIBLE)
        self.finished = _Sequences(nothing, scores, none_ended)
        scores = scores.copy()
        scores[:, 0] = 0.0
        self.running = _Sequences(nothing, scores, none_ended)
        self.open_rows = np.ones(rows, dtype=bool)  # rows that may still find something better

    @property
    def kept(self) -> int:
        """Candidates of each row: so many that enough are left to go on with if the best of them end."""
        return max(2, 1 + len(self.special.ends)) * self.options.beams

    def advance(self, log_probabilities: Scores, step: int) -> Tokens:
        """Takes one step; returns the beam that each running sequence came from, ``[rows, beams]``.

        Args:
            log_probabilities: of the next token, ``[rows, beams, vocabulary]``.
            step: tokens that were generated before.
        """
        candidates, origins = self._candidates(log_probabilities, step)
        continuing = np.where(candidates.ended, candidates.scores + _IMPOSSIBLE, candidates.scores)
        self.running, places = _Sequences(candidates.tokens, continuing, candidates.ended).best(self.options.beams)
        self._finish(candidates, step)
        self._close_rows(step)
        return np.take_along_axis(origins, places, axis=1)

    def _candidates(self, log_probabilities: Scores, step: int) -> tuple[_Sequences, Tokens]:
        """The best continuations of each row, and the beams that they continue."""
        rows, _, vocabulary = log_probabilities.shape
        sums = (log_probabilities + self.running.scores[:, :, None]).reshape(rows, -1)
        places = _largest(sums, self.kept)
        origins, tokens = places // vocabulary, places % vocabulary
        before = np.take_along_axis(self.running.tokens, origins[:, :, None], axis=1)
        ended = np.isin(tokens, self.special.ends) | (step + 1 == self.options.max_new_tokens)
        scores = np.take_along_axis(sums, places, axis=1)
        return _Sequences(np.concatenate([before, tokens[:, :, None]], axis=2), scores, ended), origins

    def _finish(self, candidates: _Sequences, step: int) -> None:
        """Lets candidates that ended take the places of finished sequences that are worse."""
        options, finished = self.options, self.finished
        newly = candidates.ended & (np.arange(self.kept) < options.beams)
        full = finished.ended.all(axis=1) & (options.early_stopping is True)
        barred = ~newly | (full | ~self.open_rows)[:, None]
        scores = candidates.scores / np.float32((step + 1) ** options.length_penalty)
        scores = np.where(barred, scores + _IMPOSSIBLE, scores)
        filler = np.full((*finished.tokens.shape[:2], 1), self.special.pad)
        longer = np.concatenate([finished.tokens, filler], axis=2)
        self.finished, _ = _Sequences(
            np.concatenate([longer, candidates.tokens], axis=1),
            np.concatenate([finished.scores, scores], axis=1),
            np.concatenate([finished.ended, newly], axis=1),
        ).best(options.beams)

    def _close_rows(self, step: int) -> None:
        """Closes rows whose best running sequence cannot, by the estimate that was asked for, still win."""
        options = self.options
        never = options.early_stopping == "never" and options.length_penalty > 0.0
        length = options.max_new_tokens if never else step + 1
        best = self.running.scores[:, 0] / np.float32(length**options.length_penalty)
        worst = np.where(self.finished.ended, self.finished.scores.min(axis=1, keepdims=True), _IMPOSSIBLE)
        self.open_rows &= (best[:, None] > worst).any(axis=1)

    @property
    def done(self) -> bool:
        """Whether no row can change any more."""
        full = bool(self.finished.ended.all()) and self.options.early_stopping is True
        return full or not self.open_rows.any()


def beam_sequences(steps: Steps, options: GenerationOptions, special: SpecialTokens, places: Tokens) -> Tokens:
    """The best sequence of each row, int64 ``[rows, tokens]``, filled with padding behind its end.

    ``places`` are those of the rows in the caller's order, for the :class:`AnswerError` where scores are not finite.
    """
    prompt = steps.prompt()
    rows, beams = len(prompt), options.beams
    search, rules = _Search(rows, options, special), Rules(options, special)
    first = steps.first()
    check_scores(first, places, search.open_rows)
    logits, places = np.repeat(first, beams, axis=0), np.repeat(places, beams)  # [rows * beams, vocabulary]
    steps.select(np.repeat(np.arange(rows), beams))
    prompt = np.repeat(prompt, beams, axis=0)
    offsets = np.arange(rows)[:, None] * beams
    for step in range(options.max_new_tokens):
        history = np.concatenate([prompt, search.running.tokens.reshape(rows * beams, -1)], axis=1)
        scores = rules.applied(log_softmax(logits), step, history)
        origins = search.advance(scores.reshape(rows, beams, -1), step)
        if search.done or step + 1 == options.max_new_tokens:
            break
        steps.select((origins + offsets).reshape(-1))
        logits = steps.after(search.running.tokens[:, :, -1].reshape(-1))
        check_scores(logits, places, np.repeat(search.open_rows, beams))
    return search.finished.tokens[:, 0]


def _largest(values: Scores, count: int) -> Tokens:
    """Places of the ``count`` largest values of each row, largest first."""
    count = min(count, values.shape[1])
    places = np.argpartition(-values, count - 1, axis=1)[:, :count]
    order = np.argsort(-np.take_along_axis(values, places, axis=1), axis=1, kind="stable")
    largest: Tokens = np.take_along_axis(places, order, axis=1)
    return largest
