"""How large values get: against numpy, on graphs that are small enough to be computed by hand."""

import numpy as np
import onnx_ir as ir

from propetl.export.peaks import MeasuredGraph


def measured(tmp_path, body, inputs, constants, output="float[n, 2] y"):
    text = f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => ({output}) <{constants}> {{ {body} }}'
    ir.save(ir.from_onnx_text(text), tmp_path / "model.onnx")
    return MeasuredGraph(tmp_path / "model.onnx", tmp_path)


def test_the_largest_of_all_calls_by_absolute_value(tmp_path):
    graph = measured(tmp_path, "h = MatMul(x, w) y = Relu(h)", "float[n, 2] x", "float[2, 2] w = {1, -1, 0, 10}")
    (first,) = graph({"x": np.array([[1, 2]], np.float32)}).values()
    assert first.tolist() == [[1, 19]] and graph.peaks == {"x": 2, "h": 19, "y": 19}
    graph({"x": np.array([[-3, -3], [0, 0]], np.float32)})
    assert graph.peaks == {"x": 3, "h": 27, "y": 19}


def test_what_stands_for_minus_infinity_is_left_out(tmp_path):
    body = "seen = Cast<to = 9>(i) m = Where(seen, zero, low) s = Add(x, m) y = Softmax(s)"
    graph = measured(tmp_path, body, "float[n, 2] x, int64[n, 2] i", "float zero = {0}, float low = {-3e38}")
    graph({"x": np.array([[7, -9]], np.float32), "i": np.array([[1, 0]])})
    assert graph.peaks["m"] == 0 and graph.peaks["s"] == 7
    graph({"x": np.array([[7, -9]], np.float32), "i": np.array([[1, 1]])})
    assert graph.peaks["s"] == 9


def test_nothing_is_as_large_as_zero_and_no_number_as_infinity(tmp_path):
    """A decoder's cache is empty at first."""
    graph = measured(tmp_path, "h = Neg(x) y = Log(h)", "float[n, 2] x", "float unused = {0}")
    graph({"x": np.empty((0, 2), np.float32)})
    assert graph.peaks == {"x": 0, "h": 0, "y": 0}
    graph({"x": np.ones((1, 2), np.float32)})
    assert graph.peaks == {"x": 1, "h": 1, "y": np.inf}
