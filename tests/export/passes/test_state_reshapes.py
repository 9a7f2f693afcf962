"""Shapes that need not be computed."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.state_reshapes import StateReshapes

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
graph (float[b, s, 6] x) => (float[b, s, 2, 3] y) <int64[2] heads = {2, 3}> {
    sizes = Shape <end = 2> (x)
    shape = Concat <axis = 0> (sizes, heads)
    split = Reshape <allowzero = 1> (x, shape)
    y = Neg (split)
}
"""


def model_of(shape):
    model = ir.from_onnx_text(TEXT)
    split = model.graph.node(2).outputs[0]
    split.shape, split.type = shape and ir.Shape(shape), ir.TensorType(ir.DataType.FLOAT)
    return model


def answer(model, x):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


@pytest.mark.parametrize("rows", [2, 0])
def test_sizes_as_before_are_said_to_be_so(rows):
    model = model_of(["b", "s", 2, 3])
    x = np.random.default_rng(0).normal(size=(rows, 5, 6)).astype(np.float32)
    before = answer(model, x)
    assert StateReshapes()(model).modified
    assert [node.op_type for node in model.graph] == ["Reshape", "Neg"]
    assert model.graph.initializers["shape_0x0x2x3"].const_value.numpy().tolist() == [0, 0, 2, 3]
    np.testing.assert_array_equal(answer(model, x), before)
    assert not StateReshapes()(model).modified


@pytest.mark.parametrize("shape", [None, ["b", None, 2, 3], ["b", "other", 2, 3], ["s", "b", 2, 3], ["b", "s", 2, 0]])
def test_a_size_that_is_not_known_stays_computed(shape):
    assert not StateReshapes()(model_of(shape)).modified


def test_ensures_that_none_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="is still computed"):
        StateReshapes().ensures(model_of(["b", "s", 2, 3]))
