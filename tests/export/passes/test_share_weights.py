import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.share_weights import ShareWeights
from propetl.export.weight_store import WeightStore
from tests.export.passes.graphs import constant, graph


def with_weights(array: np.ndarray, bias: np.ndarray) -> ir.Model:
    rows, columns = array.shape
    model = graph(
        "h = MatMul (x, w) y = Add (h, b)",
        f"float[batch, {rows}] x, float[{rows}, {columns}] w, float[{columns}] b",
        f"float[batch, {columns}] y",
    )
    constant(model, "w", array)
    constant(model, "b", bias)
    return model


def test_equal_weights_of_two_graphs_are_written_once(tmp_path) -> None:
    array = np.random.default_rng(0).normal(size=(32, 32)).astype(np.float32)
    bias = np.ones(32, np.float32)
    models = [with_weights(array, bias), with_weights(array, bias), with_weights(array + 1, bias)]
    with WeightStore(tmp_path / "weights.data") as store:
        for model in models:
            assert ShareWeights(store)(model).modified
    tensors = [model.graph.initializers["w"].const_value for model in models]
    assert all(isinstance(tensor, ir.ExternalTensor) for tensor in tensors)
    offsets = [tensor.offset for tensor in tensors if isinstance(tensor, ir.ExternalTensor)]
    assert offsets == [0, 0, 4096]
    assert (tmp_path / "weights.data").stat().st_size == 2 * 4096
    for tensor, expected in zip(tensors, (array, array, array + 1), strict=True):
        assert tensor is not None
        np.testing.assert_array_equal(tensor.numpy(), expected)


def test_small_constants_stay_in_the_graph(tmp_path) -> None:
    model = with_weights(np.zeros((32, 32), np.float32), np.ones(32, np.float32))
    with WeightStore(tmp_path / "weights.data") as store:
        ShareWeights(store)(model)
    assert not isinstance(model.graph.initializers["b"].const_value, ir.ExternalTensor)


def test_a_large_constant_that_is_left_is_noticed(tmp_path) -> None:
    model = with_weights(np.zeros((32, 32), np.float32), np.ones(32, np.float32))
    with WeightStore(tmp_path / "weights.data") as store, pytest.raises(ir.passes.PostconditionError, match="w is not"):
        ShareWeights(store).ensures(model)
