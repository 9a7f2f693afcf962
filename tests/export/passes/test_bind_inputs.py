"""Inputs become constants."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.bind_inputs import BindInputs


@pytest.fixture
def model():
    return ir.from_onnx_text(
        """
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[batch, 2] x, float[labels, 2] w, uint8[3] bits) => (float[batch, labels] y) {
            wt = Transpose<perm = [1, 0]>(w)
            y = MatMul(x, wt)
        }
        """
    )


W = np.array([[1, 2], [3, 4], [5, 6]], np.float32)


def names(model):
    return [value.name for value in model.graph.inputs]


def test_the_named_inputs_become_initialisers(model):
    result = BindInputs({"w": W})(model)
    assert result.modified and names(model) == ["x", "bits"]
    bound = model.graph.initializers["w"]
    assert np.array_equal(bound.const_value.numpy(), W) and list(bound.shape) == [3, 2]
    assert model.graph.node(0).inputs[0] is bound


def test_arrays_of_any_layout(model):
    BindInputs({"w": np.asfortranarray(W)})(model)
    assert np.array_equal(model.graph.initializers["w"].const_value.numpy(), W)


def test_a_free_size_gets_its_value_everywhere(model):
    """Also behind operators of other domains, through which no shape can be inferred."""
    BindInputs({"w": W})(model)
    assert [str(size) for size in model.graph.outputs[0].shape] == ["batch", "3"]
    assert isinstance(model.graph.outputs[0].shape[1], int)


def test_nothing_to_bind(model):
    assert not BindInputs({})(model).modified and names(model) == ["x", "w", "bits"]


@pytest.mark.parametrize(
    ("values", "message"),
    [
        ({"v": W}, "'v' is not an input of the graph"),
        ({"wt": W}, "'wt' is not an input of the graph"),
        ({"w": W.astype(np.float64)}, "w: takes float32, got float64"),
        ({"w": W[0]}, r"w: takes \[.*labels.*, 2\], got \[2\]"),
        ({"w": W.T}, r"w: takes \[.*labels.*, 2\], got \[2, 3\]"),
        ({"bits": np.zeros(4, np.uint8)}, r"bits: takes \[3\], got \[4\]"),
    ],
)
def test_requires_inputs_that_fit(model, values, message):
    with pytest.raises(ir.passes.PreconditionError, match=message):
        BindInputs(values)(model)
    assert names(model) == ["x", "w", "bits"]


def test_ensures_that_no_bound_name_is_left(model):
    with pytest.raises(ir.passes.PostconditionError, match="still inputs"):
        BindInputs({"w": W}).ensures(model)
