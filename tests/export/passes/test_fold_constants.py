import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.fold_constants import FoldConstants
from tests.export.passes.graphs import constant, graph, operators


def masked_weights(width: int) -> tuple[ir.Model, np.ndarray]:
    """``x @ (p * m)`` with prototype and mask constant."""
    model = graph(
        "w = Mul (p, m) y = MatMul (x, w)",
        f"float[batch, {width}] x, float[{width}, {width}] p, float[{width}, {width}] m",
        f"float[batch, {width}] y",
    )
    random = np.random.default_rng(0)
    prototype = random.normal(size=(width, width)).astype(np.float32)
    mask = (random.random((width, width)) < 0.5).astype(np.float32)
    constant(model, "p", prototype)
    constant(model, "m", mask)
    return model, prototype * mask


@pytest.mark.parametrize("width", [4, 600])  # 600 x 600 floats are beyond the optimiser's own limit
def test_masks_vanish_into_weights(width: int) -> None:
    model, expected = masked_weights(width)
    assert FoldConstants()(model).modified
    assert operators(model) == ["MatMul"]
    (weights,) = (value.const_value for value in model.graph.initializers.values())
    assert weights is not None
    np.testing.assert_array_equal(weights.numpy(), expected)


def test_what_depends_on_the_text_stays() -> None:
    model = graph("y = Mul (x, x)", "float[batch, 3] x", "float[batch, 3] y")
    assert not FoldConstants()(model).modified
    assert operators(model) == ["Mul"]


def test_a_foldable_operator_that_is_left_is_noticed() -> None:
    with pytest.raises(ir.passes.PostconditionError, match="Mul"):
        FoldConstants().ensures(masked_weights(4)[0])
