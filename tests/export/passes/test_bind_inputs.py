import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.bind_inputs import BindInputs
from tests.export.passes.graphs import graph


def sum_of_two() -> ir.Model:
    return graph("y = Add (x, m)", "float[batch, 3] x, float[labels, 3] m", "float[batch, 3] y")


def test_an_input_becomes_a_constant_of_its_value() -> None:
    model, value = sum_of_two(), np.arange(6, dtype=np.float32).reshape(2, 3)
    assert BindInputs({"m": value})(model).modified
    assert [item.name for item in model.graph.inputs] == ["x"]
    bound = model.graph.initializers["m"]
    assert bound.const_value is not None
    assert list(bound.shape or ()) == [2, 3]
    np.testing.assert_array_equal(bound.const_value.numpy(), value)


def test_nothing_to_bind_changes_nothing() -> None:
    assert not BindInputs({})(sum_of_two()).modified


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("other", np.zeros((2, 3), np.float32)),
        ("m", np.zeros((2, 3), np.float64)),
        ("m", np.zeros((2, 4), np.float32)),
        ("m", np.zeros(3, np.float32)),
    ],
    ids=["no such input", "other type", "other size", "other rank"],
)
def test_what_does_not_fit_is_refused(name: str, value: np.ndarray) -> None:
    model = sum_of_two()
    with pytest.raises(ir.passes.PreconditionError, match=name):
        BindInputs({name: value})(model)
    assert len(model.graph.inputs) == 2


def test_a_value_that_stays_an_input_is_noticed() -> None:
    with pytest.raises(ir.passes.PostconditionError, match="still inputs"):
        BindInputs({"m": np.zeros((2, 3), np.float32)}).ensures(sum_of_two())
