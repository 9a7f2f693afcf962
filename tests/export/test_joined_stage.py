"""Halves of several graphs as one: what they share is computed and kept once."""

from pathlib import Path

import numpy as np
import onnx_ir as ir

from propetl.export.joined_stage import joined_stage
from propetl.export.weight_store import WeightStore
from tests.export.passes.halves import feeds, run

HEAD = '<ir_version: 10, opset_import: ["" : 20]> graph (float[rows, 3] w, float[rows, 3] b) => '
FIRST = ir.from_onnx_text(
    HEAD
    + """(float[rows, 3] one, float[rows, 3] two, float[rows, 3] three) <float[1] twice = {2}> {
    scaled = Mul(w, twice)
    one = Relu(scaled)
    two = Identity(b)
    again = Mul(w, twice)
    three = Relu(again)
}"""
)
SECOND = ir.from_onnx_text(
    HEAD
    + """(float[rows, 3] steep, float[rows, 3] other) <float[1] twice = {3}, float[1] factor = {2}> {
    scaled = Mul(w, factor)
    steep = Relu(scaled)
    other = Mul(w, twice)
}"""
)


def test_equal_values_are_one_output_under_the_names_of_each_half() -> None:
    joined = joined_stage({"first": FIRST, "second": SECOND})
    assert joined.names == {
        "first": ("applied.0", "applied.1", "applied.0"),
        "second": ("applied.0", "applied.2"),
    }
    assert [value.name for value in joined.model.graph.outputs] == ["applied.0", "applied.1", "applied.2"]
    assert sorted(node.op_type for node in joined.model.graph) == ["Identity", "Mul", "Mul", "Relu"]
    assert len(joined.model.graph.initializers) == 2  # constants of one name differ, of two names are equal


def test_it_computes_what_the_halves_do_and_leaves_them_alone() -> None:
    joined = joined_stage({"first": FIRST, "second": SECOND})
    given = {name: array for name, array in feeds(4).items() if name != "x"}
    found = run(joined.model, given)
    for name, half in (("first", FIRST), ("second", SECOND)):
        for value, place in zip(run(half, given).values(), joined.names[name], strict=True):
            np.testing.assert_array_equal(found[place], value)


def test_attributes_tell_nodes_apart() -> None:
    def half(axis: int) -> ir.Model:
        return ir.from_onnx_text(HEAD + f"(float[rows, 3] found) {{ found = Softmax<axis = {axis}>(w) }}")

    joined = joined_stage({"rows": half(0), "columns": half(1), "again": half(1)})
    assert joined.names == {"rows": ("applied.0",), "columns": ("applied.1",), "again": ("applied.1",)}
    assert len(joined.model.graph) == 2


def test_weights_in_the_store_are_equal_by_their_place(tmp_path: Path) -> None:
    def half(array: np.ndarray) -> ir.Model:
        model = ir.from_onnx_text(HEAD + "(float[rows, 3] found) <float[1000, 3] weight> { found = Identity(w) }")
        value = ir.Value(name="weight", const_value=store.add(ir.tensor(array), "weight"))
        value.shape, value.type = ir.Shape([1000, 3]), ir.TensorType(ir.DataType.FLOAT)
        node = ir.node("ReduceSum", [value], attributes={"keepdims": 1})
        model.graph.register_initializer(value)
        model.graph.append(node)
        added = ir.node("Add", [model.graph.inputs[0], node.outputs[0]])
        model.graph.append(added)
        added.outputs[0].name = "sum"
        model.graph.outputs[0] = added.outputs[0]
        return model

    with WeightStore(tmp_path / "weights.data") as store:
        ones, more = np.ones((1000, 3), dtype=np.float32), np.full((1000, 3), 2, dtype=np.float32)
        joined = joined_stage({"a": half(ones), "b": half(more), "c": half(ones)})
    assert joined.names["a"] == joined.names["c"] != joined.names["b"]
    assert [type(value.const_value) for value in joined.model.graph.initializers.values()] == [ir.ExternalTensor] * 2
