"""Logits to the scores that tokens are chosen by: rules that forbid tokens, and the shape of sampling."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.generation.options import GenerationOptions, SpecialTokens
from propetl.runtime.generation.steps import Scores, Tokens

_NEVER = -np.inf


def log_softmax(logits: Scores) -> Scores:
    """Logarithms of probabilities, float32, over the last axis."""
    shifted = logits - logits.max(axis=-1, keepdims=True)
    scores: Scores = shifted - np.log(np.exp(shifted).sum(axis=-1, keepdims=True))
    return scores


@dataclass(frozen=True)
class Rules:
    """What a sequence may go on with, whatever its scores are."""

    options: GenerationOptions
    special: SpecialTokens

    def applied(self, scores: Scores, step: int, history: Tokens) -> Scores:
        """``scores`` with those of forbidden tokens at minus infinity.

        Args:
            scores: float32 ``[rows, vocabulary]``; not changed.
            step: tokens that were generated before.
            history: prompt and generated tokens, int64 ``[rows, length]``.
        """
        if self.options.no_repeat_ngram:
            scores = _without_repeats(scores, history, self.options.no_repeat_ngram)
        if self.special.ends and step < self.options.min_new_tokens:
            scores = scores.copy()
            scores[:, list(self.special.ends)] = _NEVER
        return scores


def _without_repeats(scores: Scores, history: Tokens, size: int) -> Scores:
    """Forbids each token that would complete a sequence of ``size`` tokens which is there already."""
    scores = scores.copy()
    for row, tokens in enumerate(history.tolist()):
        scores[row, _completions(tokens, size)] = _NEVER
    return scores


def _completions(tokens: Sequence[int], size: int) -> list[int]:
    last = tuple(tokens[len(tokens) - size + 1 :])
    starts = range(len(tokens) - size + 1)
    return [tokens[start + size - 1] for start in starts if tuple(tokens[start : start + size - 1]) == last]


def warped(scores: Scores, options: GenerationOptions) -> Scores:
    """Scores ``[rows, vocabulary]`` after temperature, top-k and top-p, in this order."""
    if options.temperature != 1.0:
        scores = scores / np.float32(options.temperature)
    if 0 < options.top_k < scores.shape[-1]:
        worst = np.partition(scores, -options.top_k, axis=-1)[:, -options.top_k, None]
        scores = np.where(scores < worst, np.float32(_NEVER), scores)
    if options.top_p < 1.0:
        scores = np.where(_beyond(scores, options.top_p), np.float32(_NEVER), scores)
    return scores


def _beyond(scores: Scores, top_p: float) -> NDArray[np.bool_]:
    """Tokens below those best ones whose probabilities reach ``top_p``; the best one always stays."""
    order = np.argsort(scores, axis=-1, kind="stable")
    ascending = np.take_along_axis(scores, order, axis=-1)
    removed = np.exp(log_softmax(ascending)).cumsum(axis=-1) <= np.float32(1 - top_p)
    removed[:, -1] = False
    beyond = np.empty_like(removed)
    np.put_along_axis(beyond, order, removed, axis=-1)
    return beyond
