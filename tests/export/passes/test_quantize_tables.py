"""Embeddings as integers."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.quantize_tables import QuantizeTables

TABLE = (np.random.default_rng(0).normal(size=(1000, 32)) * np.linspace(0.01, 5, 1000)[:, None]).astype(np.float32)


def model_of(body, table=TABLE):
    head = '<ir_version: 10, opset_import: ["" : 20]> graph (int64[b,s] ids) => (float[b,s,n] y)'
    model = ir.from_onnx_text(f"{head} {{ {body} }}")
    value = next(item for node in model.graph for item in node.inputs if item is not None and item.name == "table")
    value.const_value = ir.tensor(table, name="table")
    model.graph.register_initializer(value)
    return model


def test_rows_are_looked_up_as_integers():
    model = model_of("y = Gather(table, ids)")
    assert QuantizeTables()(model).modified
    ids = np.array([[0, 999, 500]])
    session = onnxruntime.InferenceSession(ir.to_proto(model).SerializeToString(), providers=["CPUExecutionProvider"])
    (found,) = session.run(None, {"ids": ids})
    scale = np.abs(TABLE[ids]).max(axis=-1, keepdims=True)
    assert (np.abs(found - TABLE[ids]) / scale).max() <= 0.5 / 127 + 1e-6
    held = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    assert held == TABLE.size + 4 * len(TABLE)


def test_two_lookups_share_a_table():
    model = model_of("a = Gather(table, ids) b = Gather(table, ids) y = Add(a, b)")
    QuantizeTables()(model)
    assert len(model.graph.initializers) == 2


@pytest.mark.parametrize(
    ("body", "table"),
    [
        ("y = Gather(table, ids)", TABLE[:2]),  # token types
        ("y = Gather<axis = 1>(table, ids)", TABLE),
        ("y = Gather(table, ids)", TABLE.reshape(-1, 1)),  # scales
    ],
)
def test_others_stay(body, table):
    assert not QuantizeTables()(model_of(body, table)).modified


def test_ensures_that_no_table_of_floats_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="looks floats up"):
        QuantizeTables().ensures(model_of("y = Gather(table, ids)"))
