import json
import math
import sys
import warnings

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.data.metrics import check_metrics, classes_of, compute, values_of
from propetl.errors import ConfigurationError, MissingExtraError
from propetl.problems import PROBLEMS

# 3 true positives, 1 false negative, 2 false positives, 4 true negatives
LABELS = np.array([1, 1, 1, 1, 0, 0, 0, 0, 0, 0])
PREDICTED = np.array([1, 1, 1, 0, 1, 1, 0, 0, 0, 0])


def test_class_metrics_by_hand() -> None:
    scores = compute(["accuracy", "f1", "matthews"], PREDICTED, LABELS)
    assert list(scores) == ["accuracy", "f1", "matthews"]
    assert scores["accuracy"] == pytest.approx(7 / 10)
    assert scores["f1"] == pytest.approx(2 * 3 / (2 * 3 + 1 + 2))
    assert scores["matthews"] == pytest.approx((3 * 4 - 2 * 1) / math.sqrt(5 * 4 * 6 * 5))


def test_value_metrics_by_hand() -> None:
    values, wanted = np.array([1.0, 2.0, 3.0, 4.0]), np.array([1.0, 2.0, 2.0, 7.0])
    # from the means 2.5 and 3
    deviations = [(-1.5, -2.0), (-0.5, -1.0), (0.5, -1.0), (1.5, 4.0)]
    product = sum(a * b for a, b in deviations)
    norm = math.sqrt(sum(a * a for a, _ in deviations) * sum(b * b for _, b in deviations))
    scores = compute(["pearson", "spearman"], values, wanted)
    assert scores["pearson"] == pytest.approx(product / norm)
    # ranks 1 2 3 4 and 1 2.5 2.5 4
    assert scores["spearman"] == pytest.approx((2.25 + 0 + 0 + 2.25) / math.sqrt(5 * 4.5))


def test_f1_of_three_classes_is_the_mean() -> None:
    labels, predicted = np.array([0, 0, 1, 1, 2, 2]), np.array([0, 0, 1, 2, 2, 1])
    assert compute(["f1"], predicted, labels)["f1"] == pytest.approx((1.0 + 0.5 + 0.5) / 3)


def test_f1_counts_classes_by_the_logits() -> None:
    """A dev split without class 2: class 1 alone would be taken for the positive one."""
    logits, labels = np.eye(3)[[0, 0, 1, 1]], np.array([0, 1, 1, 1])
    assert compute(["f1"], logits, labels)["f1"] == pytest.approx((2 / 3 + 4 / 5 + 0) / 3)


def test_logits_and_predictions_score_alike() -> None:
    logits = np.stack([1.0 - PREDICTED, PREDICTED], axis=1)
    names = ["accuracy", "f1", "matthews"]
    assert compute(names, logits, LABELS) == compute(names, PREDICTED, LABELS)
    values = np.array([[0.1], [0.5], [0.4]], dtype=np.float32)
    wanted = np.array([1.0, 3.0, 2.0], dtype=np.float32)
    assert compute(["pearson"], values, wanted) == compute(["pearson"], values[:, 0], wanted)


@pytest.mark.parametrize("constant", [0, 1])
def test_constant_classes_score_zero_without_a_warning(constant: int) -> None:
    same = np.full(10, constant)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(["matthews"], same, LABELS) == {"matthews": 0.0}
        assert compute(["matthews"], LABELS, same) == {"matthews": 0.0}
        assert compute(["f1"], np.zeros(10, int), np.zeros(10, int)) == {"f1": 0.0}


@pytest.mark.parametrize("name", ["pearson", "spearman"])
def test_constant_values_score_zero_without_a_warning(name: str) -> None:
    same, other = np.full(4, 2.5), np.arange(4.0)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute([name], same, other) == {name: 0.0}
        assert compute([name], other, same) == {name: 0.0}
        assert compute([name], np.array([1.0]), np.array([2.0])) == {name: 0.0}


def test_values_that_hardly_vary_still_correlate_without_a_warning() -> None:
    values = 1e6 + np.array([0.0, 1e-6, 2e-6, 3e-6])
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert compute(["pearson"], values, np.arange(4.0))["pearson"] == pytest.approx(1.0, abs=1e-3)


@given(
    st.lists(
        st.tuples(st.integers(0, 2), st.integers(0, 2), st.floats(-10, 10, width=32), st.floats(-10, 10, width=32)),
        min_size=1,
        max_size=30,
    )
)
def test_scores_are_json_and_in_range(rows: list[tuple[int, int, float, float]]) -> None:
    predicted, labels, values, wanted = (np.array(column) for column in zip(*rows, strict=True))
    scores = compute(["accuracy", "f1", "matthews"], predicted, labels)
    scores |= compute(["pearson", "spearman"], values, wanted)
    assert json.loads(json.dumps(scores, allow_nan=False)) == scores
    assert all(type(score) is float and -1 - 1e-9 <= score <= 1 + 1e-9 for score in scores.values())


def test_prediction_of_logits() -> None:
    classes = classes_of(np.array([[0.1, 0.9], [2.0, -1.0]], dtype=np.float32))
    assert classes.dtype == np.int64
    assert classes.tolist() == [1, 0]
    values = values_of(np.array([[0.5], [1.5]], dtype=np.float32))
    assert values.dtype == np.float64
    assert values.tolist() == [0.5, 1.5]


def test_unknown_metric_is_refused() -> None:
    with pytest.raises(ConfigurationError, match="'meteor' is unknown: use one of accuracy, f1"):
        compute(["meteor"], PREDICTED, LABELS)


def test_diverged_predictions_are_refused() -> None:
    with pytest.raises(ConfigurationError, match=r"prediction of row 2 .*lower the learning rate"):
        compute(["accuracy"], np.array([[0.0, 1.0], [np.nan, 1.0]]), np.array([0, 1]))


def test_lengths_have_to_agree() -> None:
    with pytest.raises(ValueError, match="do not belong together"):
        compute(["accuracy"], PREDICTED, LABELS[:3])
    with pytest.raises(ValueError, match="do not belong together"):
        compute(["accuracy"], PREDICTED[:0], LABELS[:0])


LIBRARIES = {
    "f1": "sklearn",
    "matthews": "sklearn",
    "pearson": "scipy",
    "spearman": "scipy",
    "bleu": "sacrebleu",
    **dict.fromkeys(("rouge1", "rouge2", "rougeL", "rougeLsum"), "rouge_score"),
    **dict.fromkeys(("entity_f1", "entity_precision", "entity_recall"), "seqeval"),
}


@pytest.mark.parametrize("metric", sorted({name for kind in PROBLEMS.values() for name in kind.metrics}))
def test_a_library_that_is_not_there_is_missed_before_it_is_needed(metric, monkeypatch) -> None:
    """Of every metric: those that no library computes are left alone."""
    check_metrics([metric])
    for library in set(LIBRARIES.values()):
        monkeypatch.setitem(sys.modules, library, None)
    if metric not in LIBRARIES:
        check_metrics([metric])
        return
    with pytest.raises(MissingExtraError, match=f"the metric {metric} needs '{LIBRARIES[metric]}'"):
        check_metrics([metric])
