"""Inputs that may stay unfed."""

import numpy as np
import onnx
import onnx_ir as ir
import onnxruntime as ort
import pytest

from propetl.export.passes.give_defaults import GiveDefaults
from propetl.export.weight_store import WeightStore

TEXT = """<ir_version: 10, opset_import: ["" : 20]>
graph (float[n, 2] x, float[k, 2] w) => (float[n, k] y) { t = Transpose(w) y = MatMul(x, t) }"""
X = np.array([[1, 2], [3, 4]], np.float32)


@pytest.fixture
def store(tmp_path):
    with WeightStore(tmp_path / "weights") as store:
        yield store


def test_a_call_takes_the_default_or_another_value_of_another_size(store, tmp_path):
    model = ir.from_onnx_text(TEXT)
    assert GiveDefaults({"w": np.ones((1, 2), np.float32)}, store)(model).modified
    ir.save(model, tmp_path / "model.onnx")
    onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)
    quiet = ort.SessionOptions()
    quiet.log_severity_level = 3
    session = ort.InferenceSession(str(tmp_path / "model.onnx"), quiet, providers=["CPUExecutionProvider"])
    assert [item.name for item in session.get_inputs()] == ["x"]
    assert session.run(None, {"x": X})[0].tolist() == [[3], [7]]
    wider = np.eye(2, dtype=np.float32)[[0, 1, 1]]
    assert session.run(None, {"x": X, "w": wider})[0].tolist() == [[1, 2, 2], [3, 4, 4]]


def test_nothing_to_give(store):
    assert not GiveDefaults({}, store)(ir.from_onnx_text(TEXT)).modified


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("v", np.ones((1, 2), np.float32), "'v' is not an input"),
        ("w", np.ones((1, 2), np.float64), "takes float32, got float64"),
        ("w", np.ones((1, 3), np.float32), r"got \[1, 3\]"),
    ],
)
def test_requires_an_input_that_the_value_fits(store, name, value, words):
    with pytest.raises(ir.passes.PreconditionError, match=words):
        GiveDefaults({name: value}, store)(ir.from_onnx_text(TEXT))


def test_ensures_that_each_has_one(store):
    with pytest.raises(ir.passes.PostconditionError, match=r"without a default.*\['w'\]"):
        GiveDefaults({"w": np.ones((1, 2), np.float32)}, store).ensures(ir.from_onnx_text(TEXT))
