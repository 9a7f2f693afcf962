from propetl.export.passes.describe_model import DescribeModel
from tests.export.passes.graphs import graph


def test_the_tracers_notes_give_way_to_ours() -> None:
    model = graph("y = Relu (x)", "float[batch, 3] x", "float[batch, 3] y")
    model.metadata_props["path"] = "/somewhere"
    model.graph[0].metadata_props["stack"] = "/somewhere/else.py"
    model.graph.metadata_props["more"] = "/somewhere"
    DescribeModel("1.2", {"propetl.form": "folded"})(model)
    assert (model.producer_name, model.producer_version, model.ir_version) == ("propetl", "1.2", 10)
    assert dict(model.metadata_props) == {"propetl.form": "folded"}
    assert not model.graph[0].metadata_props
    assert not model.graph.metadata_props
    assert model.graph.name == "folded"
