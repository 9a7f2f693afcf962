import numpy as np
import pytest

from propetl.task import TaskSpec

THREE = TaskSpec("task", ("text",), labels=("a", "b", "c"))
VALUE = TaskSpec("task", ("text",), problem="regression", metrics=("pearson",))


def test_the_likeliest_label_with_its_probability():
    logits = np.log(np.array([0.2, 0.7, 0.1], np.float32)) + 5
    prediction = THREE.kind.prediction(THREE, logits)
    assert prediction.label == "b"
    assert prediction.score == prediction.scores["b"]
    assert prediction.scores == pytest.approx({"a": 0.2, "b": 0.7, "c": 0.1}, abs=1e-6)
    assert list(prediction.scores) == ["a", "b", "c"]


def test_large_logits_do_not_overflow():
    prediction = THREE.kind.prediction(THREE, np.array([3e38, -3e38, 0], np.float32))
    assert (prediction.label, prediction.score) == ("a", 1.0)


def test_a_regression_gives_its_value():
    prediction = VALUE.kind.prediction(VALUE, np.array([3.5], np.float32))
    assert (prediction.label, prediction.score, prediction.scores) == (None, 3.5, {})
