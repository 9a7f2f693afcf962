"""Attention of whole models is tested in test_lowered_generation.py; here, one step with a cache by hand."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.fuse_attention import fused_operators
from propetl.export.passes.fuse_cached_attention import FuseCachedAttention

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'


def step(scores: str, weights: str = "p") -> str:
    """Two heads of three, one repeated key and value; how ``scores`` are made, and which ``weights`` are used."""
    return f"""{HEAD}
graph (float[b,s,6] x, float[b,1,past,3] k, float[b,1,past,3] v, float[b,1,s,past] mask) => (float[b,s,6] y)
<int64[4] split = {{{{0,0,2,3}}}}, int64[3] joined = {{{{0,0,6}}}}, float c = {{{{0.75}}}},
 int64[4] heads = {{{{1,2,1,1}}}}, float zero = {{{{0}}}},
 float[b,s,2,3] q4, float[b,2,s,3] q, float[b,2,past,3] k2, float[b,2,past,3] v2, float[b,2,s,past] p,
 float[b,2,s,3] o, float[b,s,2,3] ot> {{{{
    q4 = Reshape(x, split)
    q = Transpose<perm = [0,2,1,3]>(q4)
    k2 = Expand(k, heads)
    v2 = Expand(v, heads)
    {scores}
    masked = Add(scores, mask)
    p = Softmax<axis = -1>(masked)
    nan = IsNaN(p)
    guarded = Where(nan, zero, p)
    o = MatMul({weights}, v2)
    ot = Transpose<perm = [0,2,1,3]>(o)
    y = Reshape(ot, joined)
}}}}""".replace("{{", "{").replace("}}", "}")


SCALED = "kt = Transpose<perm = [0,1,3,2]>(k2) qs = Mul(q, c) ks = Mul(kt, c) scores = MatMul(qs, ks)"
PLAIN = "kt = Transpose<perm = [0,1,3,2]>(k2) scores = MatMul(q, kt)"


def model_of(scores=PLAIN, weights="p"):
    model = ir.from_onnx_text(step(scores, weights))
    ir.passes.common.RemoveUnusedNodesPass()(model)
    return model


def run(model, feeds):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


@pytest.mark.parametrize("tokens", [1, 4])
@pytest.mark.parametrize("scores", [PLAIN, SCALED], ids=["plain", "scaled"])
@pytest.mark.parametrize("weights", ["p", "guarded"])
def test_attention_becomes_one_operator_and_gives_the_same(scores, weights, tokens):
    random = np.random.default_rng(0)
    shapes = {"x": (2, tokens, 6), "k": (2, 1, 5, 3), "v": (2, 1, 5, 3)}
    feeds = {name: random.normal(size=shape).astype(np.float32) for name, shape in shapes.items()}
    feeds["mask"] = np.zeros((2, 1, tokens, 5), np.float32)
    feeds["mask"][0, :, :, 3:] = np.finfo(np.float32).min
    feeds["mask"][1, :, 0, :] = np.finfo(np.float32).min  # a row of padding may look at nothing
    plain, fused = model_of(scores, weights), model_of(scores, weights)
    assert FuseCachedAttention()(fused).modified
    assert fused_operators(fused) == {"MultiHeadAttention": 1}
    assert not {"Softmax", "IsNaN", "MatMul"} & {node.op_type for node in fused.graph}
    np.testing.assert_allclose(run(fused, feeds), run(plain, feeds), rtol=1e-5, atol=1e-5)


def test_nothing_to_fuse():
    model = ir.from_onnx_text(f"{HEAD} graph (float[b,4] x) => (float[b,4] y) {{ y = Softmax(x) }}")
    assert not FuseCachedAttention()(model).modified


def test_requires_shapes():
    model = model_of()
    DropStaleShapes()(model)
    model.graph.outputs[0].shape = None
    with pytest.raises(ir.passes.PreconditionError, match="no value has a shape"):
        FuseCachedAttention()(model)


def test_ensures_that_every_attention_is_fused():
    with pytest.raises(ir.passes.PostconditionError, match="is an attention that did not match"):
        FuseCachedAttention().ensures(model_of())
