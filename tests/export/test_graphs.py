"""Banks of tasks, and what a graph says of itself."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.graphs import bank_of, graph_info
from propetl.runtime.manifest import TensorSignature


@pytest.fixture(scope="module")
def packs(exported):
    return [exported.bundle.pack(task) for task in ("value", "five", "two")]


def test_a_bank_has_a_leading_axis_of_tasks_in_the_order_given(packs):
    bank = bank_of(packs)
    assert set(bank) == set(packs[0].tensors())
    for row, pack in enumerate(packs):
        assert np.array_equal(bank["mask.down.weight"][row], pack.masks["down.weight"])
    assert bank["mask.down.weight"].dtype == np.uint8 and bank["head.weight"].dtype == np.float32


def test_heads_are_filled_up_to_the_widest(packs):
    bank = bank_of(packs)
    assert bank["head.weight"].shape == (3, 5, 24) and bank["head.bias"].shape == (3, 5)
    for row, pack in enumerate(packs):
        outputs = pack.info.outputs
        assert np.array_equal(bank["head.weight"][row, :outputs], pack.head["weight"])
        assert not bank["head.weight"][row, outputs:].any() and not bank["head.bias"][row, outputs:].any()


def test_a_bank_of_one_task(packs):
    assert {name: tensor.shape[0] for name, tensor in bank_of(packs[:1]).items()} == dict.fromkeys(bank_of(packs), 1)


def test_making_a_bank_leaves_the_packs(packs):
    before = packs[0].head["weight"].copy()
    bank_of(packs)["head.weight"][:] = 7
    assert np.array_equal(packs[0].head["weight"], before)


def test_signatures_of_a_graph():
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 20]> graph (int64[batch, 2] x, uint8[3] m) => (int64[batch, 2] y)'
        "{ y = Identity(x) }"
    )
    info = graph_info(model, "folded/rte/model.onnx")
    assert info.path == "folded/rte/model.onnx"
    assert info.inputs == (TensorSignature("x", "int64", ("batch", 2)), TensorSignature("m", "uint8", (3,)))
    assert info.outputs == (TensorSignature("y", "int64", ("batch", 2)),)
