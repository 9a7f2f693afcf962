from dataclasses import replace

import pytest

from propetl.errors import ArtifactError
from propetl.runtime.artifact import read_manifest
from propetl.runtime.manifest import FormInfo, TensorSignature
from propetl.runtime.signatures import check_forms, check_graph_signature, expected_inputs


@pytest.fixture
def manifest(tiny):
    return read_manifest(tiny.path).manifest


def with_form(manifest, form, **changes):
    return replace(manifest, forms=manifest.forms | {form: replace(manifest.forms[form], **changes)})


def test_switchable_takes_the_tensors_of_a_pack_under_their_names(manifest, tiny):
    extra = expected_inputs("switchable", manifest)[3:]
    tensors = tiny.packs["mood"].tensors()
    assert {item.name for item in extra} == set(tensors)
    for item in extra:
        shape = tuple(2 if size == "labels" else size for size in item.shape)
        assert (item.dtype, shape) == (str(tensors[item.name].dtype), tensors[item.name].shape)


def test_own_heads_bring_their_dense_layer(manifest):
    linear = set(expected_inputs("switchable", manifest))
    own = set(expected_inputs("switchable", replace(manifest, head="own")))
    assert {str(item) for item in own - linear} == {
        "head.dense.weight: float32[10, 10]",
        "head.dense.bias: float32[10]",
    }


def test_unshared_weights_are_inputs_too(manifest):
    unshared = replace(manifest, prototype=replace(manifest.prototype, sharing="unshared"))
    names = [str(item) for item in expected_inputs("switchable", unshared)[3:]]
    assert "weight.down.weight: float32[2, 3, 10]" in names
    assert "weight.up.bias: float32[2, 10]" in names
    assert not any(name.startswith("mask.") for name in names)


@pytest.mark.parametrize("form", ["folded", "switchable", "bank", "bare"])
def test_the_forms_as_written_pass(manifest, form):
    for task, graph in manifest.forms[form].all_graphs().items():
        check_graph_signature(form, graph, manifest, task)


def changed_input(graph, wanted, changes):
    inputs = [replace(item, **changes) if item.name == wanted else item for item in graph.inputs]
    return replace(graph, inputs=tuple(inputs))


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("input_ids", {"dtype": "int32"}),
        ("input_ids", {"shape": ("batch", 128)}),
        ("attention_mask", {"shape": ("batch",)}),
        ("mask.down.weight", {"dtype": "float32"}),
        ("mask.down.weight", {"shape": (2, 5)}),
        ("head.weight", {"shape": (2, 10)}),
        ("head.bias", {"name": "head.bias_2"}),
    ],
)
def test_another_type_shape_or_name_is_refused(manifest, name, changes):
    graph = changed_input(manifest.forms["switchable"].graph, name, changes)
    with pytest.raises(ArtifactError, match=f"switchable/model.onnx: a switchable graph has input .*{name}"):
        check_graph_signature("switchable", graph, manifest)


@pytest.mark.parametrize("name", ["input_ids", "mask.up.weight", "head.weight"])
def test_a_missing_input_is_refused(manifest, name):
    graph = manifest.forms["switchable"].graph
    graph = replace(graph, inputs=tuple(item for item in graph.inputs if item.name != name))
    with pytest.raises(ArtifactError, match=f"has input {name}: .*; found none"):
        check_graph_signature("switchable", graph, manifest)


def test_an_input_that_the_form_has_not_is_refused(manifest):
    graph = manifest.forms["folded"].graphs["mood"]
    graph = replace(graph, inputs=(*graph.inputs, TensorSignature("task_id", "int64", ("batch",))))
    with pytest.raises(ArtifactError, match=r"has input no task_id; found task_id: int64\[batch\]"):
        check_graph_signature("folded", graph, manifest, "mood")


@pytest.mark.parametrize(
    ("form", "task", "width"),
    [("folded", "mood", 3), ("folded", "topic", 2), ("folded", "likeness", "labels"), ("switchable", None, 2),
     ("bank", None, 2), ("bank", None, "labels"), ("bare", None, "labels")],
)  # fmt: skip
def test_logits_have_the_width_of_their_form(manifest, form, task, width):
    graph = manifest.forms[form].all_graphs()[task]
    wrong = replace(graph, outputs=(TensorSignature("logits", "float32", ("batch", width)),))
    with pytest.raises(ArtifactError, match="has output logits"):
        check_graph_signature(form, wrong, manifest, task)


def test_a_second_output_is_refused(manifest):
    graph = manifest.forms["bare"].graph
    with pytest.raises(ArtifactError, match="has output"):
        check_graph_signature("bare", replace(graph, outputs=graph.outputs * 2), manifest)
    with pytest.raises(ArtifactError, match="found none"):
        check_graph_signature("bare", replace(graph, outputs=()), manifest)


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda m: replace(m, head="round"), "head is one of linear, own; found 'round'"),
        (lambda m: replace(m, forms={"fluid": m.forms["bare"]}), "form 'fluid' is not known here"),
        (lambda m: replace(m, forms={"folded": m.forms["bare"]}), "form folded has one graph for each task"),
        (lambda m: replace(m, forms={"bank": m.forms["folded"]}), "form bank has one graph for all tasks"),
        (
            lambda m: replace(m, forms={"switchable": FormInfo(graph=m.forms["folded"].graphs["mood"])}),
            "found none",
        ),
        (lambda m: with_form(m, "bank", task_ids={}), "task_ids are []"),
        (lambda m: with_form(m, "bank", task_ids={"mood": 0, "topic": 2}), "task_ids are [0, 2]"),
        (lambda m: with_form(m, "bank", task_ids={"mood": 0, "topic": 0}), "task_ids are [0, 0]"),
        (
            lambda m: with_form(m, "bank", task_ids={"mood": 0, "ghost": 1}),
            "task 'ghost', which is not listed",
        ),
        (lambda m: with_form(m, "switchable", task_ids={"mood": 0}), "task_ids are [0]"),
        (lambda m: replace(m, forms={}), "no graph takes input_ids"),
        (lambda m: replace(m, prototype=replace(m.prototype, method="full")), "only folded can"),
    ],
)
def test_forms_that_break_their_rule_are_refused(manifest, make, message):
    with pytest.raises(ArtifactError) as caught:
        check_forms(make(manifest))
    assert message in str(caught.value)


def test_all_graphs_take_the_same_token_inputs(manifest):
    graphs = manifest.forms["folded"].graphs
    fewer = replace(graphs["mood"], inputs=graphs["mood"].inputs[:2])
    with pytest.raises(ArtifactError, match="token_type_ids"):
        check_forms(with_form(manifest, "folded", graphs=graphs | {"mood": fewer}))
