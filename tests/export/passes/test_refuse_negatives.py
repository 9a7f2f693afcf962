"""Negative ids are refused as ids beyond the table are, and all others answer as before."""

import numpy as np
import onnx_ir as ir
import onnxruntime
import pytest

from propetl.export.passes.refuse_negatives import RefuseNegatives

TABLE = "float[3, 2] table = {0, 1, 2, 3, 4, 5}"


def model_of(body, inputs="int64[n] i", constants=TABLE, output="float[n, 2] y"):
    text = f'<ir_version: 10, opset_import: ["" : 20]> graph ({inputs}) => ({output}) <{constants}> {{ {body} }}'
    return ir.from_onnx_text(text)


def run(model, **feeds):
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    content = ir.to_proto(model).SerializeToString()
    return onnxruntime.InferenceSession(content, options, providers=["CPUExecutionProvider"]).run(None, feeds)[0]


def test_a_negative_id_was_another_one_and_is_an_error():
    model = model_of("y = Gather(table, i)")
    assert run(model, i=np.array([-1])).tolist() == [[4, 5]]
    assert RefuseNegatives()(model).modified
    assert run(model, i=np.array([2, 0])).tolist() == [[4, 5], [0, 1]]
    for wrong in (-1, -3, -100, 3):
        with pytest.raises(Exception, match="out of data bounds"):
            run(model, i=np.array([0, wrong]))


def test_one_guard_serves_all_tables_of_a_size():
    body = "a = Gather(table, i) b = Gather(other, i) c = Gather(wide, i) s = Add(a, b) y = Add(s, c)"
    constants = f"{TABLE}, float[3, 2] other = {{0, 1, 2, 3, 4, 5}}, float[4, 2] wide = {{0, 1, 2, 3, 4, 5, 6, 7}}"
    model = model_of(body, constants=constants)
    RefuseNegatives()(model)
    assert [node.op_type for node in model.graph].count("Where") == 2


def test_an_index_that_changes_its_shape_alone_is_still_the_inputs():
    body = "j = Unsqueeze(i, axis) k = Squeeze(j, axis) y = Gather(table, k)"
    model = model_of(body, constants=f"{TABLE}, int64[1] axis = {{0}}")
    RefuseNegatives()(model)
    with pytest.raises(Exception, match="out of data bounds"):
        run(model, i=np.array([-1]))


@pytest.mark.parametrize(
    ("body", "inputs"),
    [("y = Gather(table, k)", "int64[n] i"), ("j = Neg(i) y = Gather(table, j)", "int64[n] i")],
    ids=["a constant", "computed"],
)
def test_what_no_caller_gives_is_left_alone(body, inputs):
    model = model_of(body, inputs, f"{TABLE}, int64[1] k = {{-1}}")
    assert not RefuseNegatives()(model).modified


def test_ensures_that_none_is_left():
    with pytest.raises(ir.passes.PostconditionError, match="takes i as it comes"):
        RefuseNegatives().ensures(model_of("y = Gather(table, i)"))
