"""Sums that are there already."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.reuse_sums import ReuseSums

TEXT = """
<ir_version: 10, opset_import: ["" : 20]>
graph (TYPE[b, 4] a, TYPE[b, 4] b, TYPE[b, 4] c) => (TYPE[b, 4] y, TYPE[b, 4] z) {
    BODY
}
"""
BEFORE = "known = Add (b, c) z = Neg (known)"


def model_of(body, kind="float"):
    model = ir.from_onnx_text(TEXT.replace("BODY", body).replace("TYPE", kind))
    return ir.passes.common.ShapeInferencePass()(model).model


def answers(model):
    random = np.random.default_rng(0)
    given = {name: random.normal(size=(3, 4)).astype(np.float32) for name in "abc"}
    return onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString()).run(None, given)


@pytest.mark.parametrize("inner", ["Add (a, b)", "Add (b, a)", "Add (c, a)"])
@pytest.mark.parametrize("turned", [False, True])
def test_the_known_sum_takes_the_place_of_its_parts(inner, turned):
    last = "b" if "c" in inner else "c"
    outer = f"Add ({last}, inner)" if turned else f"Add (inner, {last})"
    model = model_of(f"{BEFORE} inner = {inner} y = {outer}")
    expected = answers(model)
    assert ReuseSums()(model).modified
    assert [node.op_type for node in model.graph] == ["Add", "Neg", "Add"]
    for found, wanted in zip(answers(model), expected, strict=True):
        np.testing.assert_allclose(found, wanted, atol=1e-6)
    assert not ReuseSums()(model).modified


STAYS = {
    "the sum comes later": "inner = Add (a, b) y = Add (inner, c) known = Add (b, c) z = Neg (known)",
    "other parts": "known = Add (a, c) inner = Add (a, b) y = Add (inner, b) z = Neg (known)",
    "the inner sum serves twice": "known = Add (b, c) inner = Add (a, b) y = Add (inner, c) z = Neg (inner)",
    "the inner sum is an output": "known = Add (b, c) n = Neg (known) z = Add (a, b) y = Add (z, c)",
    "nothing is added": "known = Add (b, c) z = Neg (known) inner = Mul (a, b) y = Add (inner, c)",
}


@pytest.mark.parametrize("body", STAYS.values(), ids=STAYS)
def test_what_saves_nothing_stays(body):
    assert not ReuseSums()(model_of(body)).modified


def test_integers_stay():
    assert not ReuseSums()(model_of(f"{BEFORE} inner = Add (a, b) y = Add (inner, c)", "int64")).modified


def test_one_that_is_left_is_found():
    with pytest.raises(ir.passes.PostconditionError, match="parts of a sum"):
        ReuseSums().ensures(model_of(f"{BEFORE} inner = Add (a, b) y = Add (inner, c)"))
