"""The half that is run once per switch."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.keep_task import KeepTask, crossing
from tests.export.passes.halves import feeds, run, whole


def test_it_takes_the_task_and_gives_what_meets_the_text():
    model = whole()
    assert KeepTask(["x"])(model).modified
    assert [value.name for value in model.graph.inputs] == ["w", "b"]
    assert [value.name for value in model.graph.outputs] == ["applied.0", "applied.1", "applied.2"]
    assert {node.op_type for node in model.graph} == {"Mul", "Relu", "Identity"}
    given = {name: value for name, value in feeds(1).items() if name != "x"}
    found = run(model, given)
    np.testing.assert_array_equal(found["applied.0"], given["b"])  # an input that crosses is passed through
    np.testing.assert_array_equal(found["applied.1"], 2 * given["w"])
    np.testing.assert_array_equal(found["applied.2"], np.maximum(2 * given["w"], 0))


def test_what_nothing_reads_is_not_taken():
    model = whole()
    model.graph.inputs.append(ir.Value(name="idle", shape=ir.Shape(["rows", 4]), type=ir.TensorType(ir.DataType.FLOAT)))
    KeepTask(["x"])(model)
    assert [value.name for value in model.graph.inputs] == ["w", "b"]


def test_what_crosses_is_in_the_order_of_the_graph():
    assert [value.name for value in crossing(whole(), ["x"])] == ["b", "scaled", "steep"]


def test_a_task_that_decides_nothing():
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 20]> graph (float[n] x) => (float[n] y) { y = Relu(x) }'
    )
    with pytest.raises(ir.passes.PreconditionError, match="the task decides nothing"):
        KeepTask(["x"])(model)


def test_what_is_left_undone_is_found():
    model = whole()
    with pytest.raises(ir.passes.PostconditionError, match="x is still an input"):
        KeepTask(["x"]).ensures(model)
    KeepTask(["x"])(model)
    model.graph.outputs[1].name = "other"
    with pytest.raises(ir.passes.PostconditionError, match="outputs are"):
        KeepTask(["x"]).ensures(model)
