"""One task for all rows of a batch."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.share_row import ShareRow
from tests.export.passes.halves import feeds, run, whole


def test_tensors_of_one_task_serve_every_row():
    model, given = whole(), feeds(1)
    assert ShareRow(["x"])(model).modified
    assert [(value.name, [str(size) for size in value.shape]) for value in model.graph.inputs] == [
        ("x", ["batch", "3"]),
        ("w", ["3"]),
        ("b", ["3"]),
    ]
    found = run(model, {"x": given["x"], "w": given["w"][0], "b": given["b"][0]})
    np.testing.assert_array_equal(found["logits"], run(whole(), given)["logits"])


def test_bytes_get_their_axis_behind_the_cast():
    """TensorRT refuses any other operator on them."""
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]>
        graph (float[batch, 3] x, uint8[rows, 3] m) => (float[batch, 3] y) {
            wide = Cast<to = 1>(m)
            y = Mul(x, wide)
        }"""
    )
    ShareRow(["x"])(model)
    assert [node.op_type for node in model.graph] == ["Cast", "Unsqueeze", "Mul"]
    x, m = np.ones((2, 3), np.float32), np.array([0, 1, 2], np.uint8)
    np.testing.assert_array_equal(run(model, {"x": x, "m": m})["y"], [[0, 1, 2]] * 2)


def test_an_input_that_nothing_reads_stays_one():
    model = whole()
    model.graph.inputs.append(
        ir.Value(name="unread", shape=ir.Shape(["batch", 4]), type=ir.TensorType(ir.DataType.FLOAT))
    )
    ShareRow(["x"])(model)
    assert [(value.name, list(value.shape or ())) for value in model.graph.inputs][-1] == ("unread", [4])


def test_an_input_without_an_axis():
    model = whole()
    model.graph.inputs[1].shape = ir.Shape([])
    with pytest.raises(ir.passes.PreconditionError, match="w has no leading axis"):
        ShareRow(["x"])(model)


def test_what_is_left_undone_is_found():
    with pytest.raises(ir.passes.PostconditionError, match="w keeps its axis"):
        ShareRow(["x"]).ensures(whole())
