"""Products of four-bit weights."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.quantize_to_nibbles import BLOCK, QuantizeToNibbles, packed_blocks
from tests.export.passes.test_quantize_dynamically import WEIGHT, X, model_of, operators, run


@pytest.mark.parametrize("inputs", [32, 48])
def test_nibbles_hold_what_the_operator_reads(inputs):
    matrix = np.random.default_rng(1).normal(size=(inputs, 16)).astype(np.float32)
    packed, scales = packed_blocks(matrix)
    blocks = -(-inputs // BLOCK)
    assert packed.shape == (16, blocks, BLOCK // 2) and scales.shape == (16 * blocks,)
    nibbles = np.stack([packed & 15, packed >> 4], axis=-1).reshape(16, blocks, BLOCK).astype(np.float32) - 8
    found = (nibbles * scales.reshape(16, blocks, 1)).reshape(16, -1)[:, :inputs].T
    assert np.abs(found - matrix).max() <= scales.max() / 2 + 1e-6


def test_a_product_reads_nibbles_and_stays_close():
    model = model_of("y = MatMul(x, w)")
    assert QuantizeToNibbles()(model).modified
    assert operators(model) == ["MatMulNBits"]
    expected = X @ WEIGHT
    scale = np.abs(expected).max(axis=(0, 1))
    assert (np.abs(run(model) - expected) / scale).mean() < 0.1
    held = sum(value.const_value.nbytes for value in model.graph.initializers.values())
    assert held == WEIGHT.size // 2 + WEIGHT.size // BLOCK * 4


def test_others_stay():
    model = model_of("v = Relu(w) y = MatMul(x, v)")
    assert not QuantizeToNibbles()(model).modified and operators(model) == ["Relu", "MatMul"]


def test_ensures_that_no_product_of_floats_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="multiplies floats"):
        QuantizeToNibbles().ensures(model_of("y = MatMul(x, w)"))
