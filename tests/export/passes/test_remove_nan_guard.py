import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.remove_nan_guard import RemoveNanGuard
from tests.export.passes.graphs import constant, graph, operators

SHAPE = "float[batch, 3]"


def guarded(source: str = "Softmax", filling: float = 0.0) -> ir.Model:
    model = graph(f"p = {source} (x) n = IsNaN (p) y = Where (n, zero, p)", f"{SHAPE} x, float zero", f"{SHAPE} y")
    constant(model, "zero", np.array(filling, dtype=np.float32))
    return model


def test_the_guard_of_a_softmax_goes() -> None:
    model = guarded()
    assert RemoveNanGuard()(model).modified
    assert operators(model) == ["Softmax"]
    assert model.graph.outputs[0].producer() is model.graph[0]


@pytest.mark.parametrize(("source", "filling"), [("Relu", 0.0), ("Softmax", 1.0)])
def test_other_guards_stay(source: str, filling: float) -> None:
    model = guarded(source, filling)
    one = RemoveNanGuard()
    assert not one.call(model).modified
    assert operators(model) == [source, "IsNaN", "Where"]


def test_a_guard_that_is_left_is_noticed() -> None:
    with pytest.raises(ir.passes.PostconditionError, match="guards a Softmax"):
        RemoveNanGuard().ensures(guarded())
