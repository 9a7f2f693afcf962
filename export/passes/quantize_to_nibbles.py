"""Products with constant matrices of four-bit weights, in blocks: for size more than for speed."""

import numpy as np
import onnx_ir as ir
from numpy.typing import NDArray

from propetl.export.passes.quantize_dynamically import constant, is_product, matrix_of, weight_name
from propetl.runtime.operators import ONNXRUNTIME_DOMAIN

BLOCK = 32
"""Weights of one column that share a scale; half a byte each, and a float of four bytes for all of them."""

# Weights are -7 to 7 around a zero point of 8, which the operator assumes.
_LARGEST, _ZERO = 7, 8

# Kernels may turn activations into 8-bit integers; weights of 4 bits lose more than that does.
_INTEGER_ACTIVATIONS = 4


class QuantizeToNibbles(ir.passes.InPlacePass):
    """Replaces ``x @ w``, with ``w`` a constant matrix, by ONNX Runtime's ``MatMulNBits``.

    Requires: nothing.
    Ensures: no product by a large constant matrix of floats is left.
    """

    def call(self, model: ir.Model) -> ir.passes.PassResult:
        """Quantises each product."""
        found = [node for node in model.graph if is_product(node)]
        for node in found:
            _replace(model.graph, node)
        if found:
            model.opset_imports[ONNXRUNTIME_DOMAIN] = 1
        ir.passes.common.RemoveUnusedNodesPass()(model)
        return ir.passes.PassResult(model, bool(found))

    def ensures(self, model: ir.Model) -> None:
        """Looks for one that is left."""
        for node in model.graph:
            if is_product(node):
                raise ir.passes.PostconditionError(f"{node.name} multiplies floats")


def packed_blocks(matrix: NDArray[np.float32]) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """``[in, out]`` as nibbles ``[out, blocks, 16]``, two to a byte, the first below, and scales ``[out * blocks]``."""
    inputs, outputs = matrix.shape
    padded = np.pad(matrix.T, ((0, 0), (0, -inputs % BLOCK))).reshape(outputs, -1, BLOCK)  # [out, blocks, 32]
    largest = np.abs(padded).max(axis=2, keepdims=True)
    scales = np.where(largest > 0, largest / _LARGEST, 1).astype(np.float32)
    nibbles = (np.rint(padded / scales) + _ZERO).astype(np.uint8)
    return nibbles[..., 0::2] | nibbles[..., 1::2] << 4, scales.reshape(-1)


def _replace(graph: ir.Graph, node: ir.Node) -> None:
    matrix = matrix_of(node)
    packed, scales = packed_blocks(matrix)
    tape = ir.tape.Tape()
    product = tape.op(
        "MatMulNBits",
        [
            node.inputs[0],
            constant(graph, f"{weight_name(node)}.int4", packed),
            constant(graph, f"{weight_name(node)}.scale", scales),
        ],
        {
            "K": matrix.shape[0],
            "N": matrix.shape[1],
            "bits": 4,
            "block_size": BLOCK,
            "accuracy_level": _INTEGER_ACTIVATIONS,
        },
        domain=ONNXRUNTIME_DOMAIN,
    )
    product.type, product.shape = node.outputs[0].type, node.outputs[0].shape
    ir.convenience.replace_nodes_and_values(graph, node, [node], tape.nodes, [node.outputs[0]], [product])
