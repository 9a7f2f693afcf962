"""A bank of tasks from which every row picks."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.pick_rows import PickRows
from tests.export.passes.halves import feeds, run, whole

BANK = {name: np.random.default_rng(7).normal(size=(5, 3)).astype(np.float32) for name in ("w", "b")}


def test_each_row_takes_its_task():
    model = whole()
    assert PickRows(BANK, 5)(model).modified
    assert [value.name for value in model.graph.inputs] == ["x", "task_id"]
    x, task_id = feeds(4)["x"], np.array([4, 0, 2, 2])
    expected = run(whole(), {"x": x} | {name: bank[task_id] for name, bank in BANK.items()})
    np.testing.assert_array_equal(run(model, {"x": x, "task_id": task_id})["logits"], expected["logits"])


def test_a_task_that_is_not_there_answers_with_no_numbers():
    """Here from the end of the bank; elsewhere it would be zeros."""
    model = whole()
    PickRows(BANK, 5)(model)
    x = feeds(4)["x"]
    right = run(model, {"x": x, "task_id": np.array([4, 0, 3, 1])})["logits"]
    spoiled = run(model, {"x": x, "task_id": np.array([-1, 0, -5, 1])})["logits"]
    assert np.isnan(spoiled[[0, 2]]).all() and np.isfinite(right).all()
    np.testing.assert_array_equal(spoiled[[1, 3]], right[[1, 3]])


def test_tasks_that_own_no_tensors_are_told_from_those_that_are_not_there():
    """All share the layers' masks, and what answers in text has no head: the graph reads nothing of a task."""
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]> graph (float[batch, 1] x) => (float[batch, 1] y) { y = Neg(x) }"""
    )
    PickRows({}, 2)(model)
    found = run(model, {"x": np.ones((4, 1), np.float32), "task_id": np.array([0, 1, 2, -1])})["y"]
    np.testing.assert_array_equal(found, [[-1], [-1], [np.nan], [np.nan]])


def test_sizes_that_the_bank_fixes_reach_the_outputs():
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]>
        graph (float[batch, 1] x, float[rows, labels] w) => (float[batch, labels] y) { y = Mul(x, w) }"""
    )
    PickRows({"w": BANK["w"]}, 5)(model)
    assert [str(size) for size in model.graph.outputs[0].shape or ()] == ["batch", "3"]


@pytest.mark.parametrize(
    ("bank", "message"),
    [({"v": BANK["w"]}, "'v' is not an input of the graph"), ({"w": BANK["w"][0]}, "w: has 2 axes, got 1")],
)
def test_a_bank_that_does_not_fit(bank, message):
    with pytest.raises(ir.passes.PreconditionError, match=message):
        PickRows(bank, 5)(whole())


def test_what_is_left_undone_is_found():
    with pytest.raises(ir.passes.PostconditionError, match="inputs are"):
        PickRows(BANK, 5).ensures(whole())
