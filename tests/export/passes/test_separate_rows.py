"""One row of weights for a batch of any size."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.separate_rows import SeparateRows, from_task

# As the tracer leaves it: the batch is read from the task's tensor, and both leading axes have one name.
TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
graph (float[batch, sequence, 2] x, float[batch, 2, 3] w) => (float[n, 3] y) {
    size = Shape<start = 0, end = 1>(w)
    three = Constant<value = int64[1] {3}>()
    shape = Concat<axis = 0>(size, three)
    product = MatMul(x, w)
    axis = Constant<value = int64[1] {1}>()
    summed = ReduceSum<keepdims = 0>(product, axis)
    y = Reshape(summed, shape)
}
"""


@pytest.fixture
def model():
    return ir.from_onnx_text(TEXT)


def run(model, **feeds):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_one_row_serves_the_batch(model):
    random = np.random.default_rng(0)
    x, w = random.normal(size=(4, 5, 2)).astype(np.float32), random.normal(size=(4, 2, 3)).astype(np.float32)
    before = run(model, x=x, w=w)
    assert SeparateRows(["x"])(model).modified
    np.testing.assert_allclose(run(model, x=x, w=w), before, rtol=1e-6)
    np.testing.assert_allclose(run(model, x=x, w=w[:1]), run(model, x=x, w=np.repeat(w[:1], 4, 0)), rtol=1e-6)


def test_the_axis_has_a_name_of_its_own(model):
    SeparateRows(["x"])(model)
    assert [str(size) for size in model.graph.inputs[0].shape] == ["batch", "sequence", "2"]
    assert [str(size) for size in model.graph.inputs[1].shape] == ["rows", "2", "3"]


def test_a_second_run_changes_nothing(model):
    SeparateRows(["x"])(model)
    assert not SeparateRows(["x"])(model).modified


def test_what_the_task_decides_alone():
    model = ir.from_onnx_text(
        """<ir_version: 10, opset_import: ["" : 20]>
        graph (float[batch] x, float[batch] w) => (float[batch] y) <float[1] two = {2}> {
            a = Mul(w, two)
            b = Relu(a)
            c = Mul(x, two)
            d = Add(b, c)
            y = Add(d, a)
        }"""
    )
    assert [value.name for value in from_task(model, ["x"])] == ["w", "a", "b"]


def test_a_text_input_that_is_not_there(model):
    with pytest.raises(ir.passes.PreconditionError, match=r"not inputs of the graph: \['z'\]"):
        SeparateRows(["z"])(model)


def test_what_is_left_undone_is_found(model):
    with pytest.raises(ir.passes.PostconditionError, match="reads the shape of"):
        SeparateRows(["x"]).ensures(model)
    SeparateRows(["x"])(model)
    model.graph.inputs[1].shape = ir.Shape(["batch", 2, 3])
    with pytest.raises(ir.passes.PostconditionError, match="has no axis rows"):
        SeparateRows(["x"]).ensures(model)
