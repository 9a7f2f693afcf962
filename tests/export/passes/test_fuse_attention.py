"""Attention of whole models is tested in test_fused_forms_agree.py; here, one by hand."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.drop_stale_shapes import DropStaleShapes
from propetl.export.passes.fuse_attention import FuseAttention, fused_operators

HEAD = '<ir_version: 10, opset_import: ["" : 20]>'
ATTENTION = f"""{HEAD}
graph (float[b,s,4] x, float[b,1,s,s] mask) => (float[b,s,4] y)
<int64[4] split = {{0,0,2,2}}, int64[3] joined = {{0,0,4}}, float scale = {{0.70710677}},
 float[4,4] w = {{1,2,3,4, 4,3,2,1, 0,1,0,1, 2,0,2,0}},
 float[b,s,4] q, float[b,s,2,2] q4, float[b,2,s,2] qt, float[b,s,2,2] k4, float[b,2,2,s] kt, float[b,2,s,2] vt,
 float[b,2,s,s] scores, float[b,2,s,s] scaled, float[b,2,s,s] masked, float[b,2,s,s] p, float[b,2,s,2] o,
 float[b,s,2,2] ot> {{
    q = MatMul(x, w)
    q4 = Reshape(q, split)
    qt = Transpose<perm = [0,2,1,3]>(q4)
    k4 = Reshape(x, split)
    kt = Transpose<perm = [0,2,3,1]>(k4)
    vt = Transpose<perm = [0,2,1,3]>(k4)
    scores = MatMul(qt, kt)
    scaled = Mul(scores, scale)
    masked = Add(scaled, mask)
    p = Softmax<axis = -1>(masked)
    o = MatMul(p, vt)
    ot = Transpose<perm = [0,2,1,3]>(o)
    y = Reshape(ot, joined)
}}"""


def run(model, **feeds):
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    return session.run(None, feeds)[0]


def test_attention_becomes_one_operator_and_gives_the_same():
    random = np.random.default_rng(0)
    x, mask = random.normal(size=(2, 3, 4)).astype(np.float32), np.zeros((2, 1, 3, 3), np.float32)
    mask[0, :, :, 2] = -1e9
    plain, fused = ir.from_onnx_text(ATTENTION), ir.from_onnx_text(ATTENTION)
    assert FuseAttention()(fused).modified
    assert fused_operators(fused) == {"MultiHeadAttention": 1}
    assert fused.opset_imports == {"": 20, "com.microsoft": 1}
    np.testing.assert_allclose(run(fused, x=x, mask=mask), run(plain, x=x, mask=mask), rtol=1e-5, atol=1e-5)


def test_nothing_to_fuse():
    model = ir.from_onnx_text(f"{HEAD} graph (float[b,4] x) => (float[b,4] y) {{ y = Relu(x) }}")
    assert not FuseAttention()(model).modified
    assert [node.op_type for node in model.graph] == ["Relu"]


def test_requires_shapes():
    model = ir.from_onnx_text(ATTENTION)
    DropStaleShapes()(model)
    model.graph.outputs[0].shape = None
    with pytest.raises(ir.passes.PreconditionError, match="fuse before shapes are dropped"):
        FuseAttention()(model)


def test_ensures_that_no_half_way_operator_is_left():
    domain = "ai.onnxruntime._fusion"
    text = f'<ir_version: 10, opset_import: ["" : 20, "{domain}" : 1]> graph (float[4] x) => (float[4] y)'
    model = ir.from_onnx_text(f"{text} {{ y = {domain}.SDPA(x) }}")
    with pytest.raises(ir.passes.PostconditionError, match=r"half-way operators are left: \['SDPA'\]"):
        FuseAttention().ensures(model)
