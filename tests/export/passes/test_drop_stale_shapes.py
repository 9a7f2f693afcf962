"""Shapes of intermediate values are forgotten."""

import onnx
import onnx_ir as ir
import pytest

from propetl.export.passes.drop_stale_shapes import DropStaleShapes


@pytest.fixture
def model():
    model = ir.from_onnx_text(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[n, 2] x) => (float[n, 3] y) <float[2, 3] w = {1, 2, 3, 4, 5, 6}> {
            a = Relu(x)
            b = MatMul(a, w)
            y = Tanh(b)
        }
        """
    )
    for value in (model.graph.node(0).outputs[0], model.graph.node(1).outputs[0]):
        value.shape, value.type = ir.Shape([7, 7]), ir.TensorType(ir.DataType.FLOAT)  # untrue
    return model


def test_only_the_interface_and_constants_keep_theirs(model):
    assert DropStaleShapes()(model).modified
    between = [value for node in list(model.graph)[:2] for value in node.outputs]
    assert all(value.shape is None and value.type is None for value in between)
    assert str(model.graph.inputs[0].shape) == "[n,2]" and str(model.graph.outputs[0].shape) == "[n,3]"
    assert list(model.graph.initializers["w"].shape) == [2, 3]


def test_they_can_be_inferred_anew(model):
    with pytest.raises(onnx.shape_inference.InferenceError):
        onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    DropStaleShapes()(model)
    found = onnx.shape_inference.infer_shapes(ir.to_proto(model), strict_mode=True)
    shapes = {
        info.name: [size.dim_param or size.dim_value for size in info.type.tensor_type.shape.dim]
        for info in found.graph.value_info
    }
    assert (shapes["a"], shapes["b"]) == (["n", 2], ["n", 3])


def test_nothing_to_drop(model):
    DropStaleShapes()(model)
    assert not DropStaleShapes()(model).modified


def test_ensures_that_none_is_left(model):
    with pytest.raises(ir.passes.PostconditionError, match="'a' still has a shape"):
        DropStaleShapes().ensures(model)


def test_shapes_of_true_sizes_stay(model):
    first, second = (model.graph.node(index).outputs[0] for index in (0, 1))
    first.shape, second.shape = ir.Shape(["n", 2]), ir.Shape(["rows", 3])
    assert DropStaleShapes({"n"})(model).modified
    assert str(first.shape) == "[n,2]" and first.type is not None and second.shape is None


@pytest.mark.parametrize("shape", [["n", None], ["n", "m + 1"]])
def test_a_shape_that_is_known_in_part_is_dropped(model, shape):
    first = model.graph.node(0).outputs[0]
    first.shape = ir.Shape(shape)
    DropStaleShapes({"n", "m"})(model)
    assert first.shape is None
