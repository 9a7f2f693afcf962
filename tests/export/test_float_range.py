"""Which operators float16 is too narrow for."""

import onnx_ir as ir
import pytest

from propetl.export.float_range import LARGEST, MARGIN, masking_floors, too_wide


def graph_of(body, constants="float[2, 2] w = {1, 2, 3, 4}", inputs="float[n, 2] x"):
    text = f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => (float[n, 2] y) <{constants}> {{ {body} }}'
    return ir.from_onnx_text(text).graph


def kept(graph, **peaks):
    return {node.outputs[0].name: reason for node, reason in too_wide(graph, peaks).items()}


BODY = "h = MatMul(x, w) r = Relu(h) y = MatMul(r, w)"


@pytest.mark.parametrize(("peak", "wide"), [(LARGEST / MARGIN, False), (LARGEST / MARGIN + 1, True), (1e400, True)])
def test_a_value_fits_with_the_margin(peak, wide):
    found = kept(graph_of(BODY), x=1.0, h=peak, r=1.0, y=1.0)
    assert set(found) == ({"h", "r"} if wide else set())
    assert not wide or found["r"] == f"h reaches {peak:.3g}"


def test_what_is_too_small_loses_its_digits():
    assert kept(graph_of(BODY), x=1.0, h=1e-5, r=1e-5, y=1.0)["h"] == "h is 1e-05 at most"
    assert kept(graph_of(BODY), x=1.0, h=0.0, r=0.0, y=0.0) == {}
    assert set(kept(graph_of(BODY, "float[2, 2] w = {1e-6, 0, 0, 1e-6}"))) == {"h", "y"}


def test_inputs_are_values_as_others_are():
    """Such as the cache of a decoder, which is brought to float16 where it comes in."""
    assert set(kept(graph_of(BODY), x=1e5, h=1.0, r=1.0, y=1.0)) == {"h"}


def test_constants_have_no_margin_and_no_way_around_it():
    assert kept(graph_of(BODY, "float[2, 2] w = {1, 2, 3, 65504}")) == {}
    assert set(kept(graph_of(BODY, "float[2, 2] w = {1, 2, 3, -70000}"))) == {"h", "y"}
    assert kept(graph_of("c = Constant<value = float {1e6}>() y = Mul(x, c)"))["y"] == "c reaches 1e+06"


def test_what_goes_through_integers_keeps_its_size():
    body = "q = QuantizeLinear(x, s, z) d = DequantizeLinear(q, s, z) y = MatMul(d, w)"
    constants = "float[2, 2] w = {1, 2, 3, 4}, float s = {1000}, int8 z = {0}"
    assert set(kept(graph_of(body, constants), x=1e5, y=1.0)) == {"q", "d", "y"}


@pytest.mark.parametrize(("scale", "wide"), [(500, False), (600, True)])
def test_integers_that_are_constant_are_as_large_as_their_scale_says(scale, wide):
    constants = f"int8[2, 2] q = {{1, -127, 3, 4}}, float s = {{{scale}}}, int8 z = {{0}}"
    found = kept(graph_of("d = DequantizeLinear(q, s, z) y = MatMul(x, d)", constants), x=1.0, y=1.0)
    assert set(found) == ({"d", "y"} if wide else set())


MASK = "seen = Cast<to = 9>(i) m = Where(seen, zero, low) s = Add(x, {}) y = Softmax(s)"
LOW = "float zero = {0}, float low = {-3e38}"


def test_masks_are_known_by_the_softmax_that_reads_them():
    graph = graph_of(MASK.format("m"), LOW, "float[n, 2] x, int64[n, 2] i")
    floors = {value.name: floor for value, floor in masking_floors(graph).items()}
    assert set(floors) == {"low", "m", "s"} and floors["s"] == pytest.approx(-1.5e38)
    assert kept(graph, x=1.0, m=0.0, s=1.0, y=1.0) == {}
    assert set(kept(graph, x=1.0, m=0.0, s=1e5, y=1.0)) == {"s", "y"}


def test_a_large_number_that_no_softmax_reads_is_no_mask():
    graph = graph_of(f"{MASK.format('m')} z = Neg(m)", LOW, "float[n, 2] x, int64[n, 2] i")
    assert masking_floors(graph) == {} and "m" in kept(graph)
