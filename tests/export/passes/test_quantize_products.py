"""Integer products, said in the graph."""

import numpy as np
import onnx_ir as ir
import onnxruntime as ort
import pytest

from propetl.export.passes.quantize_products import QuantizeProducts, has_constant_matrix
from propetl.export.ranges import Range
from propetl.runtime.engines.ort_options import UNSATURATED

BODY = "a = MatMul(x, w) b = MatMul(x, v) c = Add(a, b) d = MatMul(c, w) y = MatMul(d, c)"


def model_of(body=BODY, opset=20):
    random = np.random.default_rng(0)
    weights = ", ".join(
        f"float[4, 4] {name} = {{{', '.join(f'{value:.6f}' for value in random.normal(size=16))}}}" for name in "wv"
    )
    model = ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : {opset}]>'
        f"graph (float[4, 4] x) => (float[4, 4] y) <{weights}> {{ {body} }}"
    )
    for node in model.graph:
        node.name = f"make_{node.outputs[0].name}"
    return model


RANGES = {"make_a": Range(-3.0, 2.5), "make_b": Range(-1.0, 2.0), "make_d": Range(-9.0, 9.0)}


def run(model, x):
    options = ort.SessionOptions()
    options.add_session_config_entry(*UNSATURATED)
    content = ir.to_proto(model).SerializeToString()
    session = ort.InferenceSession(content, options, providers=["CPUExecutionProvider"])
    return session.run(None, {"x": x})[0]


def operators(model):
    return [node.op_type for node in model.graph]


def test_products_by_constants_are_found():
    assert [node.name for node in model_of().graph if has_constant_matrix(node)] == ["make_a", "make_b", "make_d"]


@pytest.mark.parametrize("symmetric", [True, False])
def test_answers_are_close(symmetric):
    x = np.random.default_rng(1).uniform(-2, 2, size=(4, 4)).astype(np.float32)
    expected, model = run(model_of(), x), model_of()
    assert QuantizeProducts(RANGES, symmetric)(model).modified
    found = run(model, x)
    assert 0 < np.abs(found - expected).max() < 0.03 * np.abs(expected).max()


def test_an_activation_that_products_share_is_quantised_once():
    model = model_of()
    QuantizeProducts(RANGES)(model)
    assert operators(model).count("QuantizeLinear") == 2  # x for a and b; c for d
    assert operators(model).count("DequantizeLinear") == 5  # and v, and w for each reader
    assert all(len(model.graph.initializers[name].uses()) == 1 for name in ("w.int8", "w.int8.2", "v.int8"))
    scales = {
        name: float(value.const_value.numpy()) for name, value in model.graph.initializers.items() if name == "x.scale"
    }
    assert scales == {"x.scale": pytest.approx(3 / 127)}  # the wider range of the two


def test_weights_are_integers_by_column_and_the_floats_are_gone():
    model = model_of()
    weight = model.graph.initializers["w"].const_value.numpy()
    QuantizeProducts(RANGES)(model)
    constants = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    assert "w" not in constants and constants["w.int8"].dtype == np.int8
    assert np.abs(constants["w.int8"]).max(axis=0).tolist() == [127] * 4
    restored = constants["w.int8"] * constants["w.scale"]
    assert np.abs(restored - weight).max() <= constants["w.scale"].max() / 2 * 1.001


def test_what_is_not_named_stays():
    model = model_of()
    QuantizeProducts({"make_a": Range(-3.0)})(model)
    assert "w" in model.graph.initializers and "v" in model.graph.initializers  # d multiplies by w
    d = next(node for node in model.graph if node.name == "make_d")
    assert [value.name for value in d.inputs] == ["c", "w"]


def test_tiny_weights_keep_a_scale_that_float16_can_hold():
    model = model_of()
    model.graph.initializers["v"].const_value = ir.tensor(np.full((4, 4), 1e-9, np.float32), name="v")
    QuantizeProducts(RANGES)(model)
    assert model.graph.initializers["v.scale"].const_value.numpy().min() >= np.finfo(np.float16).tiny


@pytest.mark.parametrize(("low", "high", "zero"), [(-3.0, 2.1, 150), (0.0, 5.1, 0), (-5.1, 0.0, 255)])
def test_unsigned_activations_use_all_integers_for_their_range(low, high, zero):
    model = model_of()
    QuantizeProducts({"make_a": Range(low, high)}, symmetric=False)(model)
    constants = {name: value.const_value.numpy() for name, value in model.graph.initializers.items()}
    assert constants["x.scale"] == pytest.approx((high - low) / 255)
    assert constants["x.zero"].dtype == np.uint8 and constants["x.zero"] == zero


def test_a_fused_product_becomes_one_that_engines_know():
    model = model_of("y = com.microsoft.FusedMatMul<transB = 1>(x, w)")
    model.graph.node(0).name = "make_y"
    model.opset_imports["com.microsoft"] = 1
    x = np.random.default_rng(1).uniform(-2, 2, size=(4, 4)).astype(np.float32)
    expected = run(model, x)
    QuantizeProducts({"make_y": Range(-2.0, 2.0)}, symmetric=False)(model)
    assert operators(model).count("MatMul") == 1 and "FusedMatMul" not in operators(model)
    assert np.abs(run(model, x) - expected).max() < 0.03 * np.abs(expected).max()


def test_onnxruntime_runs_unsigned_ones_on_its_integer_kernel(tmp_path):
    model = model_of("a = MatMul(x, w) b = MatMul(x, v) c = Mul(a, b) d = MatMul(c, w) y = MatMul(d, c)")
    QuantizeProducts(RANGES, symmetric=False)(model)
    options = ort.SessionOptions()
    options.optimized_model_filepath = str(tmp_path / "optimised.onnx")
    options.log_severity_level = 3
    ort.InferenceSession(ir.to_proto(model).SerializeToString(), options, providers=["CPUExecutionProvider"])
    found = operators(ir.load(tmp_path / "optimised.onnx"))
    assert found.count("MatMulIntegerToFloat") == 3 and found.count("MatMul") == 1  # that of two activations
    assert "DequantizeLinear" not in found


def test_nothing_to_do():
    assert not QuantizeProducts({})(model_of()).modified


@pytest.mark.parametrize(
    ("words", "ranges", "opset"),
    [
        ("opset 19", RANGES, 18),
        ("'make_y' is no product by a constant matrix", {"make_y": Range(-1.0)}, 20),
        ("'nothing' is no product", {"nothing": Range(-1.0)}, 20),
        ("the range of 'make_a' is Range.low=0", {"make_a": Range()}, 20),
        ("the range of 'make_a' is .*nan", {"make_a": Range(0.0, float("nan"))}, 20),
    ],
)
def test_requires(words, ranges, opset):
    with pytest.raises(ir.passes.PreconditionError, match=words):
        QuantizeProducts(ranges)(model_of(opset=opset))


def test_ensures_that_every_product_is_quantised():
    with pytest.raises(ir.passes.PostconditionError, match="make_a is not quantised"):
        QuantizeProducts(RANGES).ensures(model_of())
