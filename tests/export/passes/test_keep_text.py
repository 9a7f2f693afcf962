"""The half that is run for every batch: with the other half it is the whole."""

import numpy as np
import onnx_ir as ir
import pytest

from propetl.export.passes.keep_task import KeepTask
from propetl.export.passes.keep_text import KeepText
from tests.export.passes.halves import feeds, run, whole


@pytest.mark.parametrize("rows", [1, 4])
def test_both_halves_are_the_whole(rows):
    task, text = whole(), whole()
    KeepTask(["x"])(task)
    assert KeepText(["x"])(text).modified
    given = feeds(rows)
    applied = run(task, {name: given[name] for name in ("w", "b")})
    found = run(text, {"x": given["x"], **applied})
    np.testing.assert_array_equal(found["logits"], run(whole(), given)["logits"])


def test_it_takes_text_and_what_the_other_half_gives():
    task, text = whole(), whole()
    KeepTask(["x"])(task)
    KeepText(["x"])(text)
    assert [value.name for value in text.graph.inputs] == ["x", "applied.0", "applied.1", "applied.2"]
    given, taken = task.graph.outputs, text.graph.inputs[1:]
    assert [(one.shape, one.dtype) for one in given] == [(one.shape, one.dtype) for one in taken]
    assert [node.op_type for node in text.graph] == ["Mul", "Add", "Mul"]


def test_names_of_a_stage_that_several_graphs_share():
    text = whole()
    KeepText(["x"], ["applied.7", "applied.2", "applied.7"])(text)
    assert [value.name for value in text.graph.inputs] == ["x", "applied.7", "applied.2"]
    with pytest.raises(ir.passes.PreconditionError, match="3 values cross, and have 2 names"):
        KeepText(["x"], ["applied.0", "applied.1"])(whole())


def test_a_value_of_which_nothing_is_known():
    model = whole()
    next(node for node in model.graph if node.op_type == "Relu").outputs[0].shape = None
    with pytest.raises(ir.passes.PreconditionError, match=r"type or shape is not known of \['steep'\]"):
        KeepText(["x"])(model)


def test_a_task_that_decides_nothing():
    model = ir.from_onnx_text(
        '<ir_version: 10, opset_import: ["" : 20]> graph (float[n] x) => (float[n] y) { y = Relu(x) }'
    )
    with pytest.raises(ir.passes.PreconditionError, match="the task decides nothing"):
        KeepText(["x"])(model)


def test_what_is_left_undone_is_found():
    with pytest.raises(ir.passes.PostconditionError, match="w is an input"):
        KeepText(["x"]).ensures(whole())
