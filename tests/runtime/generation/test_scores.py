"""Scores are those of transformers' processors; tokens are drawn as often as their probability says."""

import numpy as np
import pytest
import torch
from transformers.generation.logits_process import (
    LogitsProcessorList,
    NoRepeatNGramLogitsProcessor,
    TemperatureLogitsWarper,
    TopKLogitsWarper,
    TopPLogitsWarper,
)

from propetl.runtime.generation.options import GenerationOptions, SpecialTokens
from propetl.runtime.generation.scores import Rules, log_softmax, warped
from propetl.runtime.generation.single import single_sequences


def random_scores(seed: int, rows: int = 5, vocabulary: int = 40) -> np.ndarray:
    return (3 * np.random.default_rng(seed).normal(size=(rows, vocabulary))).astype(np.float32)


def test_log_softmax_is_torchs() -> None:
    scores = random_scores(0)
    expected = torch.log_softmax(torch.from_numpy(scores), dim=-1).numpy()
    np.testing.assert_allclose(log_softmax(scores), expected, rtol=1e-6, atol=1e-6)


@pytest.mark.parametrize("temperature", [0.3, 1.0, 2.5])
@pytest.mark.parametrize("top_k", [0, 1, 7, 40, 100])
@pytest.mark.parametrize("top_p", [0.05, 0.6, 0.95, 1.0])
def test_warped_scores_are_those_of_transformers(temperature, top_k, top_p) -> None:
    warpers = LogitsProcessorList([TemperatureLogitsWarper(temperature)])
    if top_k:
        warpers.append(TopKLogitsWarper(top_k))
    if top_p < 1.0:
        warpers.append(TopPLogitsWarper(top_p))
    for seed in range(20):
        scores = random_scores(seed)
        before = scores.copy()
        options = GenerationOptions(sample=True, temperature=temperature, top_k=top_k, top_p=top_p)
        expected = warpers(torch.zeros(5, 1, dtype=torch.int64), torch.from_numpy(scores.copy())).numpy()
        np.testing.assert_allclose(warped(scores, options), expected, rtol=1e-6)
        np.testing.assert_array_equal(scores, before)


@pytest.mark.parametrize("size", [1, 2, 3])
def test_repeats_are_forbidden_as_in_transformers(size) -> None:
    random = np.random.default_rng(size)
    rules = Rules(GenerationOptions(no_repeat_ngram=size), SpecialTokens(0, (1,), 0))
    for length in range(1, 12):
        history = random.integers(0, 4, size=(5, length))
        scores = random_scores(length, vocabulary=4)
        processor = NoRepeatNGramLogitsProcessor(size)
        expected = processor(torch.from_numpy(history), torch.from_numpy(scores.copy())).numpy()
        np.testing.assert_array_equal(rules.applied(scores, length - 1, history), expected)


class FixedSteps:
    """Whatever was chosen, the scores are the same."""

    def __init__(self, scores: np.ndarray) -> None:
        self.scores = scores

    def prompt(self) -> np.ndarray:
        return np.zeros((len(self.scores), 1), dtype=np.int64)

    def first(self) -> np.ndarray:
        return self.scores

    def after(self, tokens: np.ndarray) -> np.ndarray:
        return self.scores

    def select(self, rows: np.ndarray) -> None:
        raise AssertionError("no row ends here")


@pytest.mark.parametrize("options", [{}, {"temperature": 0.5, "top_k": 4}, {"top_p": 0.8, "top_k": 0}], ids=str)
def test_tokens_are_drawn_by_their_probability(options) -> None:
    scores = random_scores(1, rows=4, vocabulary=8) / 3
    chosen = GenerationOptions(max_new_tokens=4000, sample=True, seed=11, **options)
    drawn = np.stack(list(single_sequences(FixedSteps(scores), chosen, SpecialTokens(0, (), 0), np.arange(4))))
    expected = np.exp(log_softmax(warped(scores, chosen)))
    for row in range(4):
        shares = np.bincount(drawn[:, row], minlength=8) / len(drawn)
        np.testing.assert_allclose(shares, expected[row], atol=4 * 0.5 / np.sqrt(len(drawn)))
        assert not shares[expected[row] == 0].any()


def test_the_seed_decides_what_is_drawn() -> None:
    scores = random_scores(2, rows=3, vocabulary=8) / 3

    def drawn(seed: int, places: list[int]) -> list[list[int]]:
        options = GenerationOptions(max_new_tokens=30, sample=True, seed=seed)
        steps = FixedSteps(scores[: len(places)])
        columns = list(single_sequences(steps, options, SpecialTokens(0, (), 0), np.array(places)))
        return np.stack(columns, axis=1).tolist()

    assert drawn(1, [0, 1, 2]) == drawn(1, [0, 1, 2])
    assert drawn(1, [0, 1, 2]) != drawn(2, [0, 1, 2])
    assert drawn(1, [0, 1, 2])[0] == drawn(1, [0])[0]
    assert drawn(1, [4])[0] != drawn(1, [5])[0]
