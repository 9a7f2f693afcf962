import json
from dataclasses import replace

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from propetl.errors import ArtifactError, BackendError, ConfigurationError
from propetl.files import sha256_of_bytes
from propetl.runtime.golden import Golden, golden_bytes
from propetl.runtime.replay import MIXED, SINGLY, TOGETHER
from propetl.runtime.selftest import self_test
from tests.runtime.tiny_artifact import ROWS, TASKS
from tests.runtime.tiny_tokenizer import token_ids


def goldens_of(tiny):
    return {task: Golden(token_ids(ROWS[task]), tiny.expected(task, ROWS[task])) for task in TASKS}


def edit_graph(tiny, relative, change):
    """Applies ``change`` to a graph and gives it a fitting record: a defect of export, not damage."""
    model = onnx.load(tiny.path / relative, load_external_data=False)
    change(model.graph)
    tiny.rewrite(relative, model.SerializeToString())


def set_initialiser(graph, name, change):
    tensor = next(item for item in graph.initializer if item.name == name)
    tensor.CopyFrom(numpy_helper.from_array(change(numpy_helper.to_array(tensor)), name))


def test_a_good_artifact_passes(tiny):
    report = self_test(tiny.path)
    assert report.passed
    assert report.breaches == ()
    assert {(item.form, item.task) for item in report.comparisons} == {
        (form, task) for form in ("folded", "switchable", "bank") for task in TASKS
    }
    assert {item.batching for item in report.comparisons if item.form == "bank"} == {TOGETHER, SINGLY, MIXED}
    assert {item.batching for item in report.comparisons if item.form == "folded"} == {TOGETHER, SINGLY}
    assert all(item.rows == len(ROWS[item.task]) and item.agreement == 1 for item in report.comparisons)
    signatures = {check.subject for check in report.checks if check.name == "signature"}
    graphs = ("switchable", "bank", "bare", *(f"folded/{task}" for task in TASKS))
    assert signatures == {f"{graph}/model.onnx" for graph in graphs}
    assert {"propetl", "numpy", "onnxruntime"} & set(report.tools)
    json.dumps(report.to_json(), allow_nan=False)


def test_one_form(tiny):
    report = self_test(tiny.path, form="bank", threads=1)
    assert report.passed
    assert {item.form for item in report.comparisons} == {"bank"}


def test_nothing_to_check(tiny, tmp_path):
    with pytest.raises(ArtifactError, match="no artifact is there"):
        self_test(tmp_path)
    with pytest.raises(ConfigurationError, match="form 'melted' is not in"):
        self_test(tiny.path, form="melted")
    with pytest.raises(BackendError, match="provider 'abacus' is not known"):
        self_test(tiny.path, provider="abacus")


def test_damaged_files_are_a_breach_and_are_not_used(own_tiny, monkeypatch):
    path = own_tiny.path / "tasks/topic.safetensors"
    path.write_bytes(path.read_bytes()[:-1] + b"\x55")
    monkeypatch.setattr("propetl.runtime.selftest.open_form", lambda *_: pytest.fail("used before it was checked"))
    report = self_test(own_tiny.path)
    assert not report.passed
    assert report.comparisons == ()
    (breach,) = report.breaches
    assert "files of the artifact" in breach
    assert "tasks/topic.safetensors" in breach


@pytest.mark.parametrize("form", ["folded", "bank"])
def test_a_wrong_weight_names_task_and_form(own_tiny, form):
    """One entry of one mask or weight of one task is wrong; every other task and form still passes."""

    def flip_bit(bank):
        bank = bank.copy()
        bank[list(TASKS).index("topic"), 0, 0] ^= 1
        return bank

    def change_weight(weights):
        weights = weights.copy()
        weights[0, 0, 0] += 1
        return weights

    if form == "folded":
        edit_graph(own_tiny, "folded/topic/model.onnx", lambda g: set_initialiser(g, "up.weight", change_weight))
    else:
        edit_graph(own_tiny, "bank/model.onnx", lambda g: set_initialiser(g, "bank.up.weight", flip_bit))
    report = self_test(own_tiny.path)
    assert not report.passed
    assert all(check.passed for check in report.checks)
    assert {(item.task, item.form) for item in report.comparisons if not item.passed} == {("topic", form)}
    assert f"task topic, form {form} (golden rows), row " in report.breaches[0]


def test_the_row_that_is_off_is_named(own_tiny):
    goldens = goldens_of(own_tiny)
    logits = goldens["mood"].logits.copy()
    logits[2] += 1e-3
    goldens["mood"] = replace(goldens["mood"], logits=logits)
    own_tiny.rewrite("golden.safetensors", golden_bytes(goldens))
    report = self_test(own_tiny.path)
    failed = [item for item in report.comparisons if not item.passed]
    assert {(item.task, item.worst_row) for item in failed} == {("mood", 2)}
    assert {item.form for item in failed} == {"folded", "switchable", "bank"}
    assert all(item.max_abs == pytest.approx(1e-3, rel=0.02) for item in failed)


def test_tolerance_is_a_hundred_thousandth(own_tiny):
    for shift, passes in ((5e-6, True), (1e-4, False)):
        goldens = goldens_of(own_tiny)
        logits = goldens["topic"].logits + np.float32(shift)
        own_tiny.rewrite(
            "golden.safetensors", golden_bytes(goldens | {"topic": replace(goldens["topic"], logits=logits)})
        )
        assert self_test(own_tiny.path, form="folded").passed is passes


def test_a_bank_that_only_serves_one_task_a_batch_is_found(own_tiny):
    """All rows take the task of the first row: right for uniform batches, wrong for mixed ones."""

    def take_first_only(graph):
        first = onnx.helper.make_tensor("only_first", onnx.TensorProto.INT64, [1], [0])
        graph.initializer.append(first)
        shape = onnx.helper.make_node("Shape", ["task_id"], ["ids_shape"])
        one = onnx.helper.make_node("Gather", ["task_id", "only_first"], ["one_id"])
        many = onnx.helper.make_node("Expand", ["one_id", "ids_shape"], ["same_ids"])
        for node in graph.node:
            node.input[:] = ["same_ids" if name == "task_id" else name for name in node.input]
        rest = list(graph.node)
        del graph.node[:]
        graph.node.extend([shape, one, many, *rest])

    edit_graph(own_tiny, "bank/model.onnx", take_first_only)
    report = self_test(own_tiny.path, form="bank")
    failed = {item.batching for item in report.comparisons if not item.passed}
    assert failed == {MIXED}


def test_a_graph_that_takes_one_batch_size_only_is_found(own_tiny):
    def fix_batch(graph):
        for value in graph.input:
            value.type.tensor_type.shape.dim[0].dim_value = len(ROWS["mood"])

    edit_graph(own_tiny, "folded/mood/model.onnx", fix_batch)
    report = self_test(own_tiny.path, form="folded")
    (breach,) = report.breaches
    assert breach.startswith("loading of task mood: ")
    assert "folded/mood/model.onnx: its inputs are attention_mask: int64[4, sequence]" in breach
    assert {item.task for item in report.comparisons} == set(TASKS) - {"mood"}


def test_rows_that_the_engine_refuses_are_a_breach(own_tiny):
    """The graph states any sequence, but a table inside is too short."""

    def shorten(graph):
        limit = onnx.helper.make_tensor("limit", onnx.TensorProto.FLOAT, [1, 5], [0.0] * 5)
        graph.initializer.append(limit)
        cast = next(node for node in graph.node if node.op_type == "Cast")
        whole, cast.output[0] = cast.output[0], "cast_before"
        add = onnx.helper.make_node("Add", ["cast_before", "limit"], [whole])
        nodes = list(graph.node)
        nodes.insert(nodes.index(cast) + 1, add)
        del graph.node[:]
        graph.node.extend(nodes)

    edit_graph(own_tiny, "folded/mood/model.onnx", shorten)
    report = self_test(own_tiny.path, form="folded")
    (breach,) = report.breaches
    assert breach.startswith("running of task mood, form folded: folded/mood/model.onnx: ONNX Runtime refused")


def test_graphs_that_do_not_load_are_a_breach(own_tiny):
    for relative in ("switchable/model.onnx", "folded/topic/model.onnx", "bare/model.onnx"):
        own_tiny.rewrite(relative, b"no graph")
    report = self_test(own_tiny.path)
    assert len(report.breaches) == 3
    assert {(item.form, item.task) for item in report.comparisons} == {
        *(("bank", task) for task in TASKS),
        *(("folded", task) for task in TASKS if task != "topic"),
    }


def test_packs_and_golden_rows_that_do_not_fit_are_breaches(own_tiny):
    pack = replace(own_tiny.packs["topic"], prototype_sha256=sha256_of_bytes(b"other"))
    own_tiny.rewrite("tasks/topic.safetensors", pack.to_bytes())
    goldens = goldens_of(own_tiny)
    del goldens["mood"]
    narrow = replace(goldens["topic"], logits=goldens["topic"].logits[:, :2])
    own_tiny.rewrite("golden.safetensors", golden_bytes(goldens | {"topic": narrow}))
    breaches = self_test(own_tiny.path).breaches
    assert any("task pack of topic" in breach and "made for prototype" in breach for breach in breaches)
    assert any("golden rows of mood" in breach for breach in breaches)
    assert any("golden rows of topic: logits are 2 wide, the task has 3" in breach for breach in breaches)
    assert any("loading of form switchable" in breach for breach in breaches)
    assert any("loading of task topic" in breach and "made for prototype" in breach for breach in breaches)
