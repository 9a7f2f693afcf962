"""What is added to attention scores is added together first."""

import onnx_ir as ir
import pytest

from propetl.export.passes.join_attention_biases import JoinAttentionBiases


def model_of(body):
    return ir.from_onnx_text(
        f"""
        <ir_version: 10, opset_import: ["" : 20]>
        graph (float[b,2,s,3] q, float[b,2,3,s] k, float[b,2,s,s] a, float[b,1,s,s] m) => (float[b,2,s,s] y) {{
            {body}
        }}
        """
    )


def layer(place, query="q", out=None):
    return (
        f"s{place} = MatMul({query}, k) t{place} = Add(s{place}, a) u{place} = Add(t{place}, m) "
        f"{out or f'p{place}'} = Softmax<axis = -1>(u{place}) "
    )


def operators(model):
    return [node.op_type for node in model.graph]


def test_two_biases_become_one():
    model = model_of(layer(0, out="y"))
    assert JoinAttentionBiases()(model).modified
    assert sorted(operators(model)) == ["Add", "Add", "MatMul", "Softmax"]
    softmax = model.graph.outputs[0].producer()
    outer = softmax.inputs[0].producer()
    assert outer.inputs[0].producer().op_type == "MatMul"
    joined = outer.inputs[1].producer()
    assert [value.name for value in joined.inputs] == ["a", "m"]
    assert list(map(str, outer.inputs[1].shape)) == ["b", "2", "s", "s"]


def test_layers_share_the_sum():
    model = model_of(f"{layer(0)} r = MatMul(p0, q) {layer(1, 'r', 'y')}")
    JoinAttentionBiases()(model)
    assert operators(model).count("Add") == 3
    assert len(model.graph.outputs[0].producer().inputs[0].producer().inputs[1].uses()) == 2


@pytest.mark.parametrize(
    "body",
    [
        "s = MatMul(q, k) t = Add(s, a) y = Softmax<axis = -1>(t)",  # one bias
        "s = MatMul(q, k) t = Add(s, a) u = Add(t, m) y = Relu(u)",  # no attention
        "s = MatMul(q, k) t = Add(s, a) u = Add(t, m) p = Softmax<axis = -1>(u) y = Add(p, t)",  # the half is read
        "t = Add(a, a) u = Add(t, m) y = Softmax<axis = -1>(u)",  # no scores
    ],
)
def test_other_additions_stay(body):
    model = model_of(body)
    before = operators(model)
    assert not JoinAttentionBiases()(model).modified and operators(model) == before


def test_ensures_that_no_chain_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="adds a second bias"):
        JoinAttentionBiases().ensures(model_of(layer(0, out="y")))
