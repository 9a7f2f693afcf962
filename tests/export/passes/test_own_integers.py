"""Equal int8 constants that an optimiser joined are one per reader again."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.fold_constants import FoldConstants
from propetl.export.passes.own_integers import OwnIntegers
from propetl.export.passes.quantize_prototype import QuantizePrototype

FIRST, SECOND = np.random.default_rng(0).normal(size=(2, 16, 32)).astype(np.float32)
MASK = (np.random.default_rng(1).random((16, 32)) < 0.5).astype(np.float32)


def two_prototypes():
    """Two masked matrices: their zero points are equal."""
    head = '<ir_version: 10, opset_import: ["" : 20]> graph (float[16,32] mask) => (float[16,32] y)'
    model = ir.from_onnx_text(f"{head} {{ a = Mul(first, mask) b = Mul(second, mask) y = Add(a, b) }}")
    for node, (name, array) in zip(model.graph, {"first": FIRST, "second": SECOND}.items(), strict=False):
        value = node.inputs[0]
        assert value is not None
        value.const_value = ir.tensor(array, name=name)
        model.graph.register_initializer(value)
    QuantizePrototype()(model)
    FoldConstants()(model)
    return model


def answer(model):
    """As on an x86 CPU without VNNI, where int8 becomes uint8."""
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry("session.x64quantprecision", "1")
    options.graph_optimization_level = onnxruntime.GraphOptimizationLevel.ORT_ENABLE_ALL
    model = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"mask": MASK})[0]


def test_each_reader_has_its_own():
    model = two_prototypes()
    assert [name for name in model.graph.initializers if "zeros" in name] == ["first.zeros"]
    assert OwnIntegers()(model).modified
    assert [name for name in model.graph.initializers if "zeros" in name] == ["first.zeros", "first.zeros.2"]
    steps = sum(np.abs(array).max(axis=1, keepdims=True) / 127 for array in (FIRST, SECOND))
    assert (np.abs(answer(model) - (FIRST + SECOND) * MASK) <= steps / 2 + 1e-6).all()


def test_what_is_apart_stays():
    model = two_prototypes()
    OwnIntegers()(model)
    assert not OwnIntegers()(model).modified


def test_ensures_one_reader_each():
    with pytest.raises(ir.passes.PostconditionError, match=r"first\.zeros is read twice"):
        OwnIntegers().ensures(two_prototypes())
