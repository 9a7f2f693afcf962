"""Keys transposed by way of three axes."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.transpose_once import TransposeOnce

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
graph (float[b, 3, s, 4] x) => (float[b, 3, 4, s] y)
<int64[1] rest = {-1}, int64[1] from = {-2}, int64[1] start = {0}, int64[1] large = {9223372036854775807}> {
    shape = Shape <start = 0> (x)
    last = Slice (shape, rest, large)
    middle = Slice (shape, from, rest)
    first = Slice (shape, start, from)
    flat_shape = Concat <axis = 0> (rest, middle, last)
    flat = Reshape <allowzero = 1> (x, flat_shape)
    swapped = Transpose <perm = [0, 2, 1]> (flat)
    deep_shape = Concat <axis = 0> (first, ORDER)
    deep = Reshape <allowzero = 1> (swapped, deep_shape)
    y = Neg (deep)
}
"""


def model_of(order="last, middle", text=TEXT):
    return ir.from_onnx_text(text.replace("ORDER", order))


def answer(model, x):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString())
    return session.run(None, {"x": x})[0]


def test_one_operator_does_the_same():
    model = model_of()
    x = np.random.default_rng(0).normal(size=(2, 3, 5, 4)).astype(np.float32)
    before = answer(model, x)
    assert TransposeOnce()(model).modified
    assert [node.op_type for node in model.graph] == ["Transpose", "Neg"]
    assert str(model.graph.node(0).outputs[0].shape) == "[b,3,4,s]"
    np.testing.assert_array_equal(answer(model, x), before)
    assert not TransposeOnce()(model).modified


MIXED = TEXT.replace("ORDER", "middle, last")
OTHER_AXES = TEXT.replace("ORDER", "last, middle").replace("[0, 2, 1]", "[1, 0, 2]")
OTHER_VALUE = TEXT.replace("ORDER", "last, middle").replace(
    "shape = Shape <start = 0> (x)", "x2 = Neg (x) shape = Shape (x2)"
)
PART_OF_SHAPE = TEXT.replace("ORDER", "last, middle").replace("start = 0", "start = 1")


@pytest.mark.parametrize("text", [MIXED, OTHER_AXES, OTHER_VALUE, PART_OF_SHAPE])
def test_what_only_looks_alike_stays(text):
    model = ir.from_onnx_text(text)
    assert not TransposeOnce()(model).modified


def test_ensures_that_none_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="still ends a detour"):
        TransposeOnce().ensures(model_of())
