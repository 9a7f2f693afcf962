"""Metrics of generated texts, by hand where they are short enough."""

import numpy as np
import pytest

from propetl.data.metrics import compute


def scored(metric, generated, wanted):
    return compute([metric], np.array(generated, dtype=object), np.array(wanted, dtype=object))[metric]


def test_exact_match():
    assert scored("exact_match", ["a", " b ", "c"], ["a", "b", "d"]) == pytest.approx(2 / 3)


def test_rouge_by_hand():
    """Unigrams: 3 of 4 and of 3, F = 6/7. Bigrams: "the cat" of 3 and 2, F = 2/5. Words are stemmed."""
    generated, wanted = ["the cat really sits"], ["the cat sitting"]
    assert scored("rouge1", generated, wanted) == pytest.approx(6 / 7)
    assert scored("rouge2", generated, wanted) == pytest.approx(2 / 5)
    assert scored("rougeL", generated, wanted) == pytest.approx(6 / 7)
    assert scored("rougeLsum", generated, wanted) == pytest.approx(6 / 7)
    assert scored("rouge1", [*generated, "x"], [*wanted, "y"]) == pytest.approx(3 / 7)


def test_bleu_is_a_share_of_one():
    texts = ["the quick brown fox jumps over the lazy dog"]
    assert scored("bleu", texts, texts) == pytest.approx(1.0)
    assert scored("bleu", ["entirely different words stand here now"], texts) < 0.05
    # 4-gram precisions 6/6, 5/5, 4/4, 3/3 and the brevity penalty exp(1 - 9/6)
    assert scored("bleu", ["the quick brown fox jumps over"], texts) == pytest.approx(np.exp(1 - 9 / 6))


def test_a_generated_answer_that_names_no_class_is_wrong():
    """As in the reference implementation: for F1 of two classes it counts as the other class."""
    labels = np.array([0, 1, 1, 1])
    assert compute(["accuracy"], np.array([-1, 1, 1, -1]), labels)["accuracy"] == 0.5
    # true positives 2, false positive 1 (the first row), false negative 1: precision and recall 2/3
    assert compute(["f1"], np.array([-1, 1, 1, -1]), labels)["f1"] == pytest.approx(2 / 3)
    assert compute(["matthews"], np.array([-1, 1, 1, 1]), labels)["matthews"] > 0
    assert compute(["pearson"], np.array([-1.0, 3.0, 4.0]), np.array([0.0, 3.0, 4.0]))["pearson"] > 0.9
