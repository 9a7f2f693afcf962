"""Products on eight-bit integers."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.quantize_dynamically import QuantizeDynamically, symmetric_int8
from propetl.runtime.engines.ort_options import UNSATURATED

RANDOM = np.random.default_rng(0)
WEIGHT = (RANDOM.normal(size=(32, 24)) * np.linspace(0.01, 3, 24)).astype(np.float32)  # columns of any size
X = RANDOM.normal(size=(2, 5, 32)).astype(np.float32)


def model_of(body, weight=WEIGHT):
    opsets = '"" : 20, "com.microsoft" : 1'
    text = f"<ir_version: 10, opset_import: [{opsets}]> graph (float[b,s,32] x) => (float[b,s,n] y) {{ {body} }}"
    model = ir.from_onnx_text(text)
    value = next(item for node in model.graph for item in node.inputs if item is not None and item.name == "w")
    value.const_value = ir.tensor(weight, name="w")
    model.graph.register_initializer(value)
    return model


def run(model, x=X):
    options = onnxruntime.SessionOptions()
    options.add_session_config_entry(*UNSATURATED)
    content = ir.to_proto(model).SerializeToString()
    session = onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operators(model):
    return [node.op_type for node in model.graph]


@pytest.mark.parametrize(
    ("body", "weight"),
    [("y = MatMul(x, w)", WEIGHT), ("y = com.microsoft.FusedMatMul<transB = 1>(x, w)", WEIGHT.T.copy())],
)
def test_a_product_runs_on_integers_and_stays_close(body, weight):
    model = model_of(body, weight)
    assert QuantizeDynamically()(model).modified
    assert sorted(operators(model)) == ["Cast", "DynamicQuantizeLinear", "MatMulInteger", "Mul", "Mul"]
    expected = X @ WEIGHT
    scale = np.abs(expected).max(axis=(0, 1))  # of each column: small ones are not drowned by large ones
    assert (np.abs(run(model) - expected) / scale).max() < 0.02


def test_it_is_what_onnxruntime_s_own_quantiser_gives(tmp_path):
    from onnxruntime.quantization import QuantType, quantize_dynamic

    ir.save(model_of("y = MatMul(x, w)"), tmp_path / "plain.onnx")
    quantize_dynamic(tmp_path / "plain.onnx", tmp_path / "q.onnx", per_channel=True, weight_type=QuantType.QInt8)
    theirs = run(ir.load(tmp_path / "q.onnx"))
    ours = model_of("y = MatMul(x, w)")
    QuantizeDynamically()(ours)
    expected = X @ WEIGHT
    assert np.abs(run(ours) - expected).mean() <= 1.05 * np.abs(theirs - expected).mean()


def test_products_of_one_activation_share_its_integers():
    model = model_of("a = MatMul(x, w) b = MatMul(x, w) y = Add(a, b)")
    QuantizeDynamically()(model)
    assert operators(model).count("DynamicQuantizeLinear") == 1 and operators(model).count("MatMulInteger") == 2


@pytest.mark.parametrize(
    ("body", "weight"),
    [
        ("y = MatMul(x, w)", WEIGHT[:, :3]),  # a head
        ("v = Relu(w) y = MatMul(x, v)", WEIGHT),  # no constant
        ("y = com.microsoft.FusedMatMul<alpha = 2.0>(x, w)", WEIGHT),  # more than a product
    ],
)
def test_others_stay(body, weight):
    model = model_of(body, weight)
    before = operators(model)
    assert not QuantizeDynamically()(model).modified and operators(model) == before


def test_integers_are_symmetric_and_a_column_of_zeros_has_a_scale():
    integers, scales = symmetric_int8(np.array([[1, 0, -2], [-0.5, 0, 1]], np.float32), axis=0)
    assert integers.tolist() == [[127, 0, -127], [-64, 0, 64]]
    assert scales.tolist() == pytest.approx([1 / 127, 1, 2 / 127])


def test_ensures_that_no_product_of_floats_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="multiplies floats"):
        QuantizeDynamically().ensures(model_of("y = MatMul(x, w)"))
