"""Where a graph comes from, and nothing of the machine it was made on."""

import onnx_ir as ir
import pytest

from propetl.export.passes.describe_model import DescribeModel

METADATA = {"propetl.form": "folded", "propetl.tasks": '["rte"]'}


@pytest.fixture
def model():
    model = ir.from_onnx_text(
        '<ir_version: 9, opset_import: ["" : 20]> graph (float[n] x) => (float[n] y) { y = Relu(x) }'
    )
    node = model.graph.node(0)
    node.metadata_props["pkg.torch.onnx.stack_trace"] = 'File "/home/someone/model.py", line 3'
    node.doc_string = "/home/someone"
    node.outputs[0].metadata_props["note"] = "/home/someone"
    model.graph.inputs[0].metadata_props["note"] = "/home/someone"
    model.graph.inputs[0].doc_string = "/home/someone"
    model.graph.metadata_props["note"] = "/home/someone"
    model.metadata_props["note"] = "/home/someone"
    model.doc_string = "/home/someone"
    return model


def test_it_says_what_was_given(model):
    assert DescribeModel("1.2", METADATA)(model).modified
    assert (model.producer_name, model.producer_version) == ("propetl", "1.2")
    assert dict(model.metadata_props) == METADATA and model.graph.name == "folded"
    assert model.ir_version == 10


def test_no_notes_of_the_tracer_are_left(model):
    assert b"/home/someone" in ir.to_proto(model).SerializeToString()
    DescribeModel("1.2", METADATA)(model)
    assert b"/home/someone" not in ir.to_proto(model).SerializeToString()


def test_ensures_that_nothing_else_is_said(model):
    with pytest.raises(ir.passes.PostconditionError, match="metadata"):
        DescribeModel("1.2", METADATA).ensures(model)
    DescribeModel("1.2", METADATA)(model)
    model.graph.node(0).metadata_props["note"] = "/home/someone"
    with pytest.raises(ir.passes.PostconditionError, match="Relu"):
        DescribeModel("1.2", METADATA).ensures(model)
