"""Large constants move to one file, once."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.share_weights import ShareWeights
from propetl.export.weight_store import WeightStore

LARGE = np.arange(512, dtype=np.float32).reshape(2, 256)  # 2 KiB


def model_of(**constants):
    x = ir.Value(name="x", shape=ir.Shape(["n", 2]), type=ir.TensorType(ir.DataType.FLOAT))
    values = [ir.Value(name=name, const_value=ir.tensor(array, name=name)) for name, array in constants.items()]
    nodes = [ir.node("MatMul", [x, value]) for value in values]
    graph = ir.Graph([x], [node.outputs[0] for node in nodes], nodes=nodes, initializers=values, opset_imports={"": 20})
    return ir.Model(graph, ir_version=10)


@pytest.fixture
def store(tmp_path):
    with WeightStore(tmp_path / "backbone.data") as store:
        yield store


def test_large_constants_become_references(store):
    model = model_of(w=LARGE, small=np.ones((2, 2), np.float32))
    assert ShareWeights(store)(model).modified
    w, small = (model.graph.initializers[name].const_value for name in ("w", "small"))
    assert isinstance(w, ir.ExternalTensor) and w.location == "backbone.data" and w.name == "w"
    assert not isinstance(small, ir.ExternalTensor)
    assert np.array_equal(w.numpy(), LARGE) and w.dtype == ir.DataType.FLOAT


@pytest.mark.parametrize(("count", "shared"), [(255, False), (256, True)])
def test_from_one_kilobyte_on(store, count, shared):
    model = model_of(w=np.ones((1, count), np.float32))
    assert ShareWeights(store)(model).modified == shared


def test_two_graphs_share_the_bytes(store):
    for _ in range(2):
        ShareWeights(store)(model_of(w=LARGE, same=LARGE.copy(), other=LARGE + 1))
    assert store.path.stat().st_size == 4096 + LARGE.nbytes  # two tensors, each from a page's start


def test_again_there_is_nothing_to_do(store):
    model = model_of(w=LARGE)
    ShareWeights(store)(model)
    assert not ShareWeights(store)(model).modified


def test_ensures_that_none_stays(store):
    with pytest.raises(ir.passes.PostconditionError, match="w is not in the shared file"):
        ShareWeights(store).ensures(model_of(w=LARGE))


def masked_model():
    """``x @ (prototype * mask) @ w``, with the mask an input."""
    x = ir.Value(name="x", shape=ir.Shape(["n", 2]), type=ir.TensorType(ir.DataType.FLOAT))
    mask = ir.Value(name="mask", shape=ir.Shape([2, 256]), type=ir.TensorType(ir.DataType.FLOAT))
    prototype = ir.Value(name="prototype", const_value=ir.tensor(LARGE, name="prototype"))
    w = ir.Value(name="w", const_value=ir.tensor(LARGE.T.copy(), name="w"))
    masked = ir.node("Mul", [prototype, mask])
    first = ir.node("MatMul", [x, masked.outputs[0]])
    last = ir.node("MatMul", [first.outputs[0], w])
    graph = ir.Graph(
        [x, mask], [last.outputs[0]], nodes=[masked, first, last], initializers=[prototype, w], opset_imports={"": 20}
    )
    return ir.Model(graph, ir_version=10)


@pytest.mark.parametrize(("bound", "stored"), [(frozenset(), {"prototype", "w"}), (frozenset({"mask"}), {"w"})])
def test_what_binding_ends_is_not_stored(store, bound, stored):
    model = masked_model()
    ShareWeights(store, bound)(model)
    held = model.graph.initializers
    assert {name for name in held if isinstance(held[name].const_value, ir.ExternalTensor)} == stored


def test_what_the_text_also_reads_is_stored(store):
    model = masked_model()
    prototype, x = model.graph.initializers["prototype"], model.graph.inputs[0]
    model.graph.append(ir.node("MatMul", [x, prototype]))
    ShareWeights(store, frozenset({"mask"}))(model)
    assert isinstance(prototype.const_value, ir.ExternalTensor)
