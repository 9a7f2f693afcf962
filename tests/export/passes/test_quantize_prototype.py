"""Integers to which masks can still be applied."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.fold_constants import FoldConstants
from propetl.export.passes.quantize_prototype import QuantizePrototype

PROTOTYPE = np.random.default_rng(0).normal(size=(16, 32)).astype(np.float32)
MULTIPLIED = "y = Mul(prototype, mask)"
CHOSEN = "zero = Sub(mask, mask) on = Greater(mask, zero) y = Where(on, prototype, zero)"


def model_of(body, prototype=PROTOTYPE):
    head = '<ir_version: 10, opset_import: ["" : 20]> graph (float[16,32] mask) => (float[16,32] y)'
    model = ir.from_onnx_text(f"{head} {{ {body} }}")
    nodes = [item for node in model.graph for item in node.inputs if item is not None and item.name == "prototype"]
    nodes[0].const_value = ir.tensor(prototype, name="prototype")
    model.graph.register_initializer(nodes[0])
    return model


@pytest.mark.parametrize("body", [MULTIPLIED, CHOSEN])
def test_any_mask_is_applied_to_the_integers(body):
    model = model_of(body)
    assert QuantizePrototype()(model).modified
    FoldConstants()(model)  # does not turn it back
    assert model.graph.initializers["prototype.int8"].const_value.nbytes == PROTOTYPE.size
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    for seed in range(3):
        mask = (np.random.default_rng(seed).random(PROTOTYPE.shape) < 0.5).astype(np.float32)
        (found,) = session.run(None, {"mask": mask})
        step = np.abs(PROTOTYPE).max(axis=1, keepdims=True) / 127
        assert (np.abs(found - PROTOTYPE * mask) <= step / 2 + 1e-6).all()
        assert not found[mask == 0].any()


@pytest.mark.parametrize(
    ("body", "prototype"),
    [("y = Add(prototype, mask)", PROTOTYPE), (MULTIPLIED, PROTOTYPE[:1, :1])],
)
def test_others_stay(body, prototype):
    assert not QuantizePrototype()(model_of(body, prototype)).modified


def test_ensures_that_no_mask_meets_floats():
    with pytest.raises(ir.passes.PostconditionError, match="masked as floats"):
        QuantizePrototype().ensures(model_of(MULTIPLIED))
