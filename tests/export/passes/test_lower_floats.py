"""Lowering float32 graphs to half the bits."""

import numpy as np
import onnx_ir as ir
import pytest
from onnx.reference import ReferenceEvaluator

from propetl.export.passes.lower_floats import LOWERED_TYPES, LowerFloats

FP16, BF16 = LOWERED_TYPES["fp16"], LOWERED_TYPES["bf16"]

LAYER = """
    h = MatMul(x, w)
    n = LayerNormalization(h, scale, shift)
    y = Add(n, shift)
"""
CONSTANTS = "float[3, 3] w = {1, 2, 3, 4, 5, 6, 7, 8, 2}, float[3] scale = {1, 2, 1}, float[3] shift = {0, 1, 2}"


def with_weight(number):
    """The constants with another last weight."""
    return CONSTANTS.replace("8, 2}", f"8, {number}}}")


def model_of(body, inputs="float[n, 3] x", output="float[n, 3] y", constants=CONSTANTS):
    return ir.from_onnx_text(
        f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => ({output}) <{constants}> {{ {body} }}'
    )


def types(model):
    """Operator -> types of its inputs."""
    return {node.op_type: [value.dtype for value in node.inputs] for node in model.graph}


def run(model, **feeds):
    """By the reference: ONNX Runtime computes float16 in float32 on a CPU, and leaves casts out."""
    (found,) = ReferenceEvaluator(ir.to_proto(model)).run(None, feeds)
    return found


@pytest.mark.parametrize("dtype", [FP16, BF16])
def test_products_are_lowered_and_the_interface_and_normalisations_stay(dtype):
    model = model_of(LAYER)
    assert LowerFloats(dtype)(model).modified
    assert types(model)["MatMul"] == [dtype, dtype] and types(model)["Add"] == [dtype, dtype]
    assert types(model)["LayerNormalization"] == [ir.DataType.FLOAT] * 3
    assert [value.dtype for value in (*model.graph.inputs, *model.graph.outputs)] == [ir.DataType.FLOAT] * 2
    assert model.graph.outputs[0].name == "y"


def test_constants_keep_their_names():
    model = model_of(LAYER, constants=with_weight("60000"))
    LowerFloats(FP16)(model)
    assert model.graph.initializers["w"].const_value.numpy().max() == 60000
    assert model.graph.initializers["w"].dtype == FP16
    assert model.graph.initializers["scale"].dtype == ir.DataType.FLOAT  # only the normalisation reads it


@pytest.mark.parametrize("weight", ["1e30", "65520"])
def test_a_weight_beyond_float16_stays_what_it_is(weight):
    """Clipped it would be another weight."""
    constants = with_weight(weight)
    x = np.array([[1, 2, 1e-3]], np.float32)
    expected = run(model_of("y = MatMul(x, w)", constants=constants), x=x)
    model = model_of("y = MatMul(x, w)", constants=constants)
    LowerFloats(FP16)(model)
    assert types(model)["MatMul"] == [ir.DataType.FLOAT] * 2
    np.testing.assert_array_equal(run(model, x=x), expected)


MASKED = """
    seen = Cast<to = 9>(i) m = Where(seen, zero, lowest) s = MatMul(x, w) masked = Add(s, m)
    p = Softmax(masked) y = MatMul(p, w)
"""
SEEN, MASKING = "float[n, 3] x, int64[n, 3] i", CONSTANTS + ", float zero = {0}, float lowest = "


@pytest.mark.parametrize("lowest", ["-3.4e38", "-1e9"])
def test_what_stands_for_minus_infinity_is_clipped(lowest):
    x, i = np.array([[1, -2, 3], [30, 1, 2]], np.float32), np.array([[1, 1, 0], [0, 1, 0]])
    constants = f"{MASKING}{{{lowest}}}"
    expected = run(model_of(MASKED, SEEN, constants=constants), x=x, i=i)
    model = model_of(MASKED, SEEN, constants=constants)
    LowerFloats(FP16)(model)
    assert all(node.outputs[0].dtype == FP16 for node in model.graph if node.op_type in ("Where", "Add", "Softmax"))
    assert model.graph.initializers["lowest"].const_value.numpy() == np.float16(-65504)
    with np.errstate(over="ignore"):  # what becomes a zero may be infinite before
        np.testing.assert_allclose(run(model, x=x, i=i), expected, rtol=1e-2)


TWICE = "h = MatMul(x, w) r = Relu(h) v = MatMul(r, u) y = Add(v, x)"
BY = ", float[3, 3] u = {1e-3, 0, 0, 0, 1e-3, 0, 0, 0, 1e-3}"


def test_products_that_leave_the_range_stay_float32():
    """200 * 500 is no float16; what reads it cannot be one either, and what is small again can."""
    constants = with_weight("500") + BY
    x = np.array([[1, 2, 200]], np.float32)
    expected = run(model_of(TWICE, constants=constants), x=x)
    plain, kept = model_of(TWICE, constants=constants), model_of(TWICE, constants=constants)
    LowerFloats(FP16)(plain)
    with np.errstate(over="ignore", invalid="ignore"):
        assert not np.isfinite(run(plain, x=x)).all()
    LowerFloats(FP16, {"x": 200.0, "h": 1e5, "r": 1e5, "v": 100.0, "y": 300.0})(kept)
    assert {node.outputs[0].name: node.outputs[0].dtype for node in kept.graph if node.op_type != "Cast"} == {
        "h": ir.DataType.FLOAT,
        "r": ir.DataType.FLOAT,
        "v": ir.DataType.FLOAT,
        "y.float16": FP16,
    }
    np.testing.assert_allclose(run(kept, x=x), expected, rtol=1e-2)


def test_a_value_that_was_not_measured_is_refused():
    with pytest.raises(ir.passes.PreconditionError, match="v was not measured"):
        LowerFloats(FP16, {"x": 1.0, "h": 1.0, "r": 1.0, "y": 1.0})(model_of(TWICE, constants=CONSTANTS + BY))


def test_bfloat16_has_the_range_of_float32():
    model = model_of(TWICE, constants=CONSTANTS + BY)
    LowerFloats(BF16, {"x": 1e30, "h": 1e30, "r": 1e30, "v": 1e30, "y": 1e30})(model)
    assert types(model)["MatMul"] == [BF16, BF16]


@pytest.mark.parametrize(("dtype", "rounding"), [(FP16, 1e-2), (BF16, 1e-1)])
def test_answers_are_those_of_before_but_for_rounding(dtype, rounding):
    constants = CONSTANTS
    x = np.random.default_rng(0).normal(size=(5, 3)).astype(np.float32)
    expected = run(model_of(LAYER, constants=constants), x=x)
    model = model_of(LAYER, constants=constants)
    LowerFloats(dtype)(model)
    found = run(model, x=x)
    assert found.dtype == np.float32
    np.testing.assert_allclose(found, expected, atol=rounding)
    assert np.abs(found - expected).max() > rounding / 100


def test_what_decides_an_index_stays_exact():
    """1 + 2**-12 is 1 in float16: lowered, the product would be 4096 and the index another."""
    body = """
        position = Cast<to = 1>(i)
        scaled = Mul(position, factor)
        entry = Cast<to = 7>(scaled)
        row = Gather(w, entry)
        y = MatMul(row, w)
    """
    constants = f"{CONSTANTS}, float factor = {{0.00024418}}"
    model = model_of(body, "int64[n] i", constants=constants)
    i, expected = np.array([4095, 4096]), run(model, i=np.array([4095, 4096]))
    LowerFloats(FP16)(model)
    assert types(model)["Mul"] == [ir.DataType.FLOAT] * 2
    assert types(model)["MatMul"] == [FP16] * 2
    np.testing.assert_allclose(run(model, i=i), expected, rtol=1e-3)


def test_casts_and_carried_constants_follow():
    body = """
        one = Constant<value = float {1.5}>()
        wide = Cast<to = 1>(i)
        s = Add(wide, one)
        y = Mul(s, s)
    """
    model = model_of(body, "int64[n] i", "float[n] y")
    LowerFloats(FP16)(model)
    assert types(model)["Add"] == [FP16, FP16]
    np.testing.assert_allclose(run(model, i=np.array([2, 3])), [12.25, 20.25])


def test_a_float_input_is_cast_once_for_all_its_readers():
    model = model_of("h = MatMul(x, w) g = MatMul(x, w) y = Add(h, g)")
    LowerFloats(FP16)(model)
    assert [node.op_type for node in model.graph] == ["Cast", "MatMul", "MatMul", "Add", "Cast"]


RMS = """
    two = Constant<value = float {2.0}>() axis = Constant<value_ints = [-1]>()
    square = Pow(x, two) mean = ReduceMean(square, axis) shifted = Add(mean, small)
    root = Sqrt(shifted) by = Reciprocal(root) scaled = Mul(x, by) y = MatMul(scaled, w)
"""


def test_squares_beyond_the_range_do_not_overflow():
    """Values of T5's hidden states are in the hundreds; 300 squared is no float16."""
    constants = CONSTANTS + ", float small = {1e-6}"
    x = np.array([[300, -2000, 5]], np.float32)
    expected = run(model_of(RMS, constants=constants), x=x)
    model = model_of(RMS, constants=constants)
    LowerFloats(FP16)(model)
    np.testing.assert_allclose(run(model, x=x), expected, rtol=1e-2)


@pytest.mark.parametrize("dtype", [FP16, BF16])
def test_angles_of_positions_stay_exact(dtype):
    """In bfloat16 position 1001 would be 1000."""
    body = """
        at = Cast<to = 1>(positions) angles = MatMul(at, speeds) wave = Cos(angles)
        h = MatMul(x, w) y = Mul(h, wave)
    """
    model = model_of(
        body, "float[n, 3] x, int64[n, 1] positions", constants=CONSTANTS + ", float[1, 3] speeds = {1, 2, 3}"
    )
    LowerFloats(dtype)(model)
    exact = {node.op_type: node for node in model.graph if node.outputs[0].name in ("at", "angles", "wave")}
    assert set(exact) == {"Cast", "MatMul", "Cos"}
    assert all(node.outputs[0].dtype == ir.DataType.FLOAT for node in exact.values())
    assert [value.dtype for value in list(model.graph)[-2].inputs] == [dtype, dtype]


@pytest.mark.parametrize(("dtype", "kept"), [(FP16, FP16), (BF16, ir.DataType.FLOAT)])
def test_what_cuda_has_no_kernel_for_stays(dtype, kept):
    body = "h = MatMul(x, w) sizes = Constant<value_ints = [0, 0, 0, 1]>() y = Pad(h, sizes)"
    model = model_of(body, output="float[n, 4] y")
    LowerFloats(dtype)(model)
    assert types(model)["Pad"][0] == kept and types(model)["MatMul"] == [dtype, dtype]


def test_the_graph_that_one_was_cloned_from_is_left_as_it_was():
    model = model_of(LAYER)
    LowerFloats(FP16)(model.clone())
    assert model.graph.initializers["w"].dtype == ir.DataType.FLOAT
    assert types(model)["MatMul"] == [ir.DataType.FLOAT] * 2


def test_nothing_to_do_without_floats():
    assert not LowerFloats(FP16)(model_of("y = Add(x, x)", "int64[n] x", "int64[n] y", "int64 unused = {0}")).modified


def test_requires_operators_whose_types_follow_from_their_inputs():
    body = "h = RandomUniformLike<dtype = 1>(x) y = Add(h, x)"
    with pytest.raises(ir.passes.PreconditionError, match="chooses its own type"):
        LowerFloats(FP16)(model_of(body))


def test_ensures_that_products_are_lowered():
    with pytest.raises(ir.passes.PostconditionError, match="MatMul"):
        LowerFloats(FP16).ensures(model_of("y = MatMul(x, w)"))
