import json

import numpy as np
import pytest

from propetl.runtime.manifest import PRECISIONS
from propetl.runtime.report import TOLERANCES, Check, Report, Tolerance, compare_logits, compare_texts

TOLERANCE = Tolerance(absolute=1e-3, relative=1e-2)
REFERENCE = np.array([[1.0, -2.0], [10.0, 0.0], [0.5, 0.25]], np.float32)


def compare(found, reference=REFERENCE):
    return compare_logits("rte", "bank", reference, np.asarray(found, np.float32), TOLERANCE)


def test_equal_logits():
    comparison = compare(REFERENCE)
    assert comparison.passed
    assert (comparison.max_abs, comparison.max_rel, comparison.agreement, comparison.rows) == (0, 0, 1, 3)


def test_both_tolerances_count():
    assert compare(REFERENCE + np.array([[0, 0], [0.1, 0], [0, 0]])).passed
    assert compare(REFERENCE + np.array([[0, 0], [0, 0.0009], [0, 0]])).passed
    assert not compare(REFERENCE + np.array([[0, 0], [0, 0.0011], [0, 0]])).passed
    assert not compare(REFERENCE + np.array([[0, 0], [0.102, 0], [0, 0]])).passed


def test_the_worst_row_is_the_one_furthest_beyond_its_own_tolerance():
    comparison = compare(REFERENCE + np.array([[0, 0], [0.09, 0], [0, 0.05]]))
    assert not comparison.passed
    assert comparison.worst_row == 2
    assert comparison.max_abs == pytest.approx(0.09, rel=1e-5)
    assert comparison.max_rel == pytest.approx(0.1, rel=1e-5)
    assert "task rte, form bank (batch), row 2: logits differ by 9.00e-02" in comparison.breach


def test_agreement_is_the_share_of_equal_predictions():
    assert compare(REFERENCE[:, ::-1]).agreement == 0.0
    assert compare([[1, -2], [0, 10], [0.5, 0.25]]).agreement == pytest.approx(2 / 3)


def test_agreement_of_a_regression_is_the_share_within_tolerance():
    reference = np.array([[1.0], [2.0], [3.0], [4.0]], np.float32)
    comparison = compare(reference + np.array([[0], [0.5], [0], [0]]), reference)
    assert comparison.agreement == 0.75
    assert comparison.worst_row == 1


@pytest.mark.parametrize("bad", [np.nan, np.inf, -np.inf])
def test_what_is_not_finite_fails_on_either_side(bad):
    damaged = REFERENCE.copy()
    damaged[1, 1] = bad
    for comparison in (compare(damaged), compare(REFERENCE, damaged), compare(damaged, damaged)):
        assert not comparison.passed
        assert comparison.worst_row == 1
        assert comparison.max_abs == comparison.max_rel == np.inf


@pytest.mark.parametrize("found", [REFERENCE[:2], REFERENCE[:, :1], np.zeros((3, 3))])
def test_another_shape_fails(found):
    assert not compare(found).passed


def test_no_rows_prove_nothing():
    assert not compare(REFERENCE[:0], REFERENCE[:0]).passed


def test_a_report_passes_if_everything_in_it_does():
    good, bad = Check("files", "it", True), Check("signature", "bank/model.onnx", False, "task_id is missing")
    equal, other = compare(REFERENCE), compare(REFERENCE + 1)
    assert Report("out", "cpu", "fp32", (good,), (equal,)).passed
    assert not Report("out", "cpu", "fp32", (good, bad), (equal,)).passed
    assert not Report("out", "cpu", "fp32", (good,), (equal, other)).passed
    assert not Report("out", "cpu", "fp32").passed
    report = Report("out", "cpu", "fp32", (good, bad), (equal, other))
    assert report.breaches == ("signature of bank/model.onnx: task_id is missing", other.breach)


def test_json_is_strict():
    found = REFERENCE.copy()
    found[0, 0] = np.nan
    report = Report("out", "cpu", "fp32", (Check("files", "it", True),), (compare(found),), {"numpy": "2"})
    value = json.loads(json.dumps(report.to_json(), allow_nan=False))
    assert value["passed"] is False
    assert value["comparisons"][0]["max_abs"] is None
    assert value["comparisons"][0]["tolerance"] == {"absolute": 1e-3, "relative": 1e-2, "same_texts": True}
    assert value["breaches"] == list(report.breaches)


def test_fp32_is_held_to_a_hundred_thousandth():
    assert TOLERANCES["fp32"] == Tolerance(1e-5, 1e-5)


def test_every_precision_that_a_manifest_may_name_has_a_tolerance():
    assert tuple(TOLERANCES) == PRECISIONS


def test_coarser_precisions_are_allowed_more():
    assert list(TOLERANCES.values()) == sorted(TOLERANCES.values(), key=lambda tolerance: tolerance.absolute)


@pytest.mark.parametrize("precision", TOLERANCES)
def test_texts_of_integers_may_be_others_but_not_missing(precision):
    def texts(found):
        return compare_texts("mood", "folded", ["good", "bad"], found, TOLERANCES[precision])

    assert texts(["good", "bad"]).passed
    other = texts(["good", "good"])
    assert (other.agreement, other.worst_row) == (0.5, 1)
    assert other.passed == precision.startswith("int")
    assert not texts(["good"]).passed
