"""The exporter's guard against attention to nothing."""

import onnx_ir as ir
import pytest

from propetl.export.passes.remove_nan_guard import RemoveNanGuard


def model_of(body, zero="0"):
    return ir.from_onnx_text(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[n, 2] x, float[n, 2] other) => (float[n, 2] y) <float zero = {{{zero}}}> {{ {body} }}
        """
    )


def operators(model):
    return [node.op_type for node in model.graph]


GUARDED = "p = Softmax(x) bad = IsNaN(p) safe = Where(bad, zero, p) y = Relu(safe)"


def test_a_guard_goes():
    model = model_of(GUARDED)
    assert RemoveNanGuard()(model).modified
    assert operators(model) == ["Softmax", "Relu"]
    assert model.graph.node(1).inputs[0] is model.graph.node(0).outputs[0]


def test_every_guard_goes():
    model = model_of(GUARDED.replace("y = Relu(safe)", "q = Softmax(safe) no = IsNaN(q) y = Where(no, zero, q)"))
    RemoveNanGuard()(model)
    assert operators(model) == ["Softmax", "Softmax"]
    assert model.graph.outputs[0] is model.graph.node(1).outputs[0]


@pytest.mark.parametrize(
    ("body", "zero"),
    [
        ("bad = IsNaN(x) y = Where(bad, zero, x)", "0"),  # not of a Softmax
        ("p = Softmax(x) bad = IsNaN(other) y = Where(bad, zero, p)", "0"),  # of something else
        ("p = Softmax(x) bad = IsInf(p) y = Where(bad, zero, p)", "0"),  # another question
        ("bad = Not(bits) y = Where(bad, zero, x)", "0"),
    ],
)
def test_other_uses_stay(body, zero):
    if "bits" in body:
        body = "bits = Greater(x, other) " + body
    model = model_of(body, zero)
    before = operators(model)
    assert not RemoveNanGuard()(model).modified and operators(model) == before


def test_a_guard_that_puts_something_else_is_none():
    model = model_of("p = Softmax(x) bad = IsNaN(p) y = Where(bad, zero, p)", zero="1")
    with pytest.raises(ir.passes.PostconditionError, match="still guards a Softmax"):
        RemoveNanGuard()(model)
    assert operators(model) == ["Softmax", "IsNaN", "Where"]


def test_nothing_to_do():
    assert not RemoveNanGuard()(model_of("y = Softmax(x)")).modified


def test_ensures_that_no_guard_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="still guards a Softmax"):
        RemoveNanGuard().ensures(model_of(GUARDED))
