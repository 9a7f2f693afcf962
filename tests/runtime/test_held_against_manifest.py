"""Packs, manifests and graphs of one artifact that contradict each other: every form refuses, none answers by one."""

import json
from dataclasses import replace
from typing import Any

import onnx
import pytest
from onnx.external_data_helper import set_external_data

from propetl.errors import ArtifactError, BundleError, ProPETLError
from propetl.runtime import Session
from propetl.runtime.selftest import self_test
from tests.runtime.test_session import WAYS
from tests.runtime.tiny_artifact import ROWS, TASKS, write_tiny_artifact


@pytest.fixture(params=WAYS, ids="-".join)
def way(request, tmp_path):
    """An artifact to damage, and the form that is to find it."""
    made, form = request.param
    return write_tiny_artifact(tmp_path / "artifact", staged=made == "staged"), form


def ask(tiny, form, task="mood"):
    with Session.open(tiny.path, form=form, threads=1) as session:
        return session.predict(task, ROWS[task])


def refused(tiny, form, match, error=ProPETLError, task="mood"):
    with pytest.raises(error, match=match):
        ask(tiny, form, task)
    assert not self_test(tiny.path, form, threads=1).passed


OTHER: dict[str, dict[str, Any]] = {
    "labels": {"labels": ("good", "bad")},
    "more labels": {"labels": ("bad", "good", "so-so")},
    "columns": {"columns": ("review",)},
    "more columns": {"columns": ("text", "title")},
    "metrics": {"metrics": ("f1",)},
    "problem": {"problem": "regression", "labels": (), "metrics": ("pearson",)},
    "tagging": {"problem": "tagging", "metrics": ("word_accuracy",)},
}


@pytest.mark.parametrize("other", OTHER.values(), ids=OTHER)
def test_a_pack_that_says_something_else(way, other):
    tiny, form = way
    pack = replace(tiny.packs["mood"], info=replace(TASKS["mood"], **other))
    tiny.rewrite("tasks/mood.safetensors", pack.to_bytes())
    refused(tiny, form, r"mood\.safetensors: ", (ArtifactError, BundleError))


@pytest.mark.parametrize("key", ["labels", "columns", "metrics"])
def test_a_manifest_that_says_something_else(way, key):
    tiny, form = way
    other = OTHER[key][key]
    tiny.edit_manifest(lambda value: value["tasks"]["mood"].update({key: other}))
    refused(tiny, form, rf"{key} of task 'mood' are .*, but the manifest says ", ArtifactError)


def test_a_pack_of_another_task(way):
    tiny, form = way
    tiny.rewrite("tasks/mood.safetensors", tiny.packs["topic"].to_bytes())
    refused(tiny, form, "holds task 'topic', expected 'mood'", ArtifactError)


def test_other_tasks_still_answer(way):
    """Only what is asked is read: a thousand packs cost nothing until they are used."""
    tiny, form = way
    tiny.edit_manifest(lambda value: value["tasks"]["mood"].update(labels=["good", "bad"]))
    if form != "switchable" or (tiny.path / "stages").is_dir():
        assert len(ask(tiny, form, "topic")) == len(ROWS["topic"])


def edit(tiny, path, change):
    model = onnx.load(tiny.path / path, load_external_data=False)
    change(model)
    tiny.rewrite(path, model.SerializeToString())


def graphs_of(tiny, form):
    if form == "folded":
        return ["folded/mood/model.onnx"]
    return ["stages/run/model.onnx", "stages/apply/model.onnx"] if (tiny.path / "stages").is_dir() else [
        f"{form}/model.onnx"
    ]  # fmt: skip


def rename(old, new):
    """Another name for an input or output, in the whole graph."""

    def change(model):
        for value in (*model.graph.input, *model.graph.output):
            value.name = new if value.name == old else value.name
        for node in model.graph.node:
            node.input[:] = [new if name == old else name for name in node.input]
            node.output[:] = [new if name == old else name for name in node.output]

    return change


def further_input(model):
    model.graph.input.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, [1]))


def further_output(model):
    first = model.graph.output[0]
    model.graph.node.append(onnx.helper.make_node("Identity", [first.name], ["more"]))
    model.graph.output.append(onnx.helper.make_tensor_value_info("more", onnx.TensorProto.FLOAT, None))


def fixed_size(model):
    model.graph.input[0].type.tensor_type.shape.dim[0].dim_value = 4


def other_kind(model):
    value = model.graph.input[1]
    value.type.tensor_type.elem_type = onnx.TensorProto.INT32


def sizes_swapped(model):
    dims = model.graph.input[1].type.tensor_type.shape.dim
    dims[0].dim_param, dims[1].dim_param = dims[1].dim_param, dims[0].dim_param


def one_size(model):
    for dim in model.graph.input[1].type.tensor_type.shape.dim:
        dim.dim_param = "batch"


@pytest.mark.parametrize(
    "change",
    [
        rename("attention_mask", "mask"),
        rename("logits", "scores"),
        further_input,
        further_output,
        fixed_size,
        other_kind,
        sizes_swapped,
        one_size,
    ],
    ids=["input", "output", "further input", "further output", "fixed size", "type", "swapped", "one size"],
)
def test_a_graph_of_another_signature(way, change):
    tiny, form = way
    edit(tiny, graphs_of(tiny, form)[0], change)
    refused(tiny, form, rf"{graphs_of(tiny, form)[0]}: (its|ONNX Runtime cannot load)", ArtifactError)


@pytest.mark.parametrize("said", [b"sequence", b"attention_mask", b"propetl.tasks"])
def test_a_graph_whose_words_are_no_text(way, said):
    """Names of sizes and values, and what a graph says of its tasks, are UTF-8 in every file that a tool writes."""
    tiny, form = way
    path = graphs_of(tiny, form)[0]
    edit(tiny, path, lambda model: onnx.helper.set_model_props(model, {"propetl.tasks": "[]"}))
    tiny.rewrite(path, (tiny.path / path).read_bytes().replace(said, b"\xff" + said[1:]))
    refused(tiny, form, rf"{path}: ", ArtifactError)


def external(location, place):
    """A tensor of a graph that stands in another file; ``place`` puts it somewhere."""
    tensor = onnx.numpy_helper.from_array(onnx.numpy_helper.to_array(onnx.helper.make_tensor(
        "stray", onnx.TensorProto.FLOAT, [4], [0.0] * 4)), "stray")  # fmt: skip
    set_external_data(tensor, location, 0, 16)
    tensor.ClearField("raw_data")

    def change(model):
        place(model, tensor)

    return change


def as_initialiser(model, tensor):
    model.graph.initializer.append(tensor)


def as_constant(model, tensor):
    model.graph.node.append(onnx.helper.make_node("Constant", [], ["constant"], value=tensor))


def in_a_branch(model, tensor):
    branch = onnx.helper.make_graph([], "branch", [], [], [tensor])
    node = onnx.helper.make_node("If", ["condition"], [], then_branch=branch, else_branch=branch)
    model.graph.node.append(node)


def in_a_function(model, tensor):
    node = onnx.helper.make_node("Constant", [], ["constant"], value=tensor)
    model.functions.append(
        onnx.helper.make_function("mine", "f", [], ["constant"], [node], [onnx.helper.make_opsetid("", 20)])
    )


def in_a_sparse_tensor(model, tensor):
    model.graph.sparse_initializer.add().values.CopyFrom(tensor)


def in_training(model, tensor):
    model.training_info.add().initialization.initializer.append(tensor)


PLACES = [as_initialiser, as_constant, in_a_branch, in_a_function, in_a_sparse_tensor, in_training]


@pytest.mark.parametrize("place", PLACES, ids=lambda place: place.__name__)
def test_weights_from_a_file_that_is_not_for_them(tiny, tmp_path, place):
    own = write_tiny_artifact(tmp_path / "artifact", forms=("folded",))
    edit(own, "folded/mood/model.onnx", external("golden.safetensors", place))
    refused(own, "folded", "takes weights from 'golden.safetensors', and only 'backbone.data'", ArtifactError)


@pytest.mark.parametrize("location", ["secret.data", "../secret.data", "/etc/passwd", "", "folded/../backbone.data"])
def test_weights_from_elsewhere(way, location):
    """Also of a file that is there, and that the engine would have read."""
    tiny, form = way
    (tiny.path / "secret.data").write_bytes(bytes(64))
    for path in graphs_of(tiny, form):
        edit(tiny, path, external(location, as_initialiser))
        refused(tiny, form, "takes weights from", ArtifactError)


def test_a_location_that_is_said_twice(own_tiny):
    """The last one counts for protocol buffers, and the first for whoever looks no further."""
    path = "folded/mood/model.onnx"
    model = onnx.load(own_tiny.path / path, load_external_data=False)
    content = model.SerializeToString()
    entry, value = b"\x6a\x19\x0a\x08location", b"\x12\x0dbackbone.data"
    longer = entry.replace(b"\x19", b"\x26") + value + b"\x12\x0bsecret.data"
    assert entry + value in content
    start = content.index(entry + value)
    content = content[:start] + longer + content[start + len(entry + value) :]
    own_tiny.rewrite(path, content)  # lengths around it no longer fit, which is found as well
    refused(own_tiny, "folded", "takes weights from 'secret.data'|not a readable ONNX graph", ArtifactError)


def described(tasks, labels):
    def change(model):
        onnx.helper.set_model_props(
            model, {"propetl.tasks": json.dumps(tasks), "propetl.labels": json.dumps(labels)}
        )

    return change


LABELS = {task: list(info.labels) for task, info in TASKS.items()}


def test_a_graph_that_says_of_its_tasks_what_the_manifest_says(way):
    tiny, form = way
    tasks = ["mood"] if form == "folded" else list(TASKS)
    for path in graphs_of(tiny, form):
        edit(tiny, path, described(tasks, {task: LABELS[task] for task in tasks}))
    ask(tiny, form)


def test_a_graph_with_other_labels(way):
    tiny, form = way
    tasks = ["mood"] if form == "folded" else list(TASKS)
    for path in graphs_of(tiny, form):
        edit(tiny, path, described(tasks, {"mood": ["good", "bad"]}))
    refused(tiny, form, "its labels of task 'mood' are .*; the manifest says", ArtifactError)


@pytest.mark.parametrize("form", ["folded", "bank"])
def test_graphs_and_rows_of_other_tasks(own_tiny, form):
    """Two tasks of one width trade places in the manifest: nothing but the graph's own words tells."""
    if form == "folded":
        for task in TASKS:
            edit(own_tiny, f"folded/{task}/model.onnx", described([task], {task: LABELS[task]}))
        own_tiny.edit_manifest(lambda value: _swap(value["forms"]["folded"]["graphs"], "mood", "entails"))
    else:
        edit(own_tiny, "bank/model.onnx", described(list(TASKS), LABELS))
        own_tiny.edit_manifest(lambda value: _swap(value["forms"]["bank"]["task_ids"], "mood", "entails"))
    refused(own_tiny, form, "its tasks are .*; the manifest says", ArtifactError)


def _swap(entries, left, right):
    entries[left], entries[right] = entries[right], entries[left]


def test_words_of_a_graph_that_are_no_json(own_tiny):
    edit(own_tiny, "bank/model.onnx", lambda model: onnx.helper.set_model_props(model, {"propetl.tasks": "["}))
    refused(own_tiny, "bank", r"bank/model\.onnx: its propetl\.tasks are", ArtifactError)


def test_nothing_is_opened_that_was_not_looked_through(own_tiny):
    """ONNX Runtime's own format may name files in another way."""
    own_tiny.rewrite("folded/mood/model.onnx", b"\x18\0\0\0ORTM" + bytes(64))
    refused(own_tiny, "folded", r"folded/mood/model\.onnx", ArtifactError)
