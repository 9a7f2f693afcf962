"""What an export leaves on disk, and what it refuses."""

import dataclasses
import json
import os

import numpy as np
import onnx
import pytest

from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.export.writer import ExportOptions, export_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime import Session
from propetl.runtime.selftest import self_test
from tests.export.random_artifact import TASKS, Case, Exported, make
from tests.tiny_backbone import tiny_backbone


def test_the_artifact_passes_its_own_test(exported: Exported) -> None:
    report = self_test(exported.artifact)
    assert report.passed, report.breaches
    assert {item.form for item in report.comparisons} == {"folded", "switchable", "bank"}


def test_weights_are_on_disk_once(exported: Exported) -> None:
    shared = exported.artifact / "backbone.data"
    links = list((exported.artifact / "folded").glob("*/backbone.data"))
    assert len(links) == len(TASKS)
    assert {path.stat().st_ino for path in links} == {shared.stat().st_ino}
    weights = sum(parameter.numel() * 4 for parameter in exported.backbone.model.parameters())
    pages = 4096 * len(list(exported.backbone.model.parameters()))
    assert shared.stat().st_size <= weights + pages


def test_graphs_pass_the_checker_beside_their_weights(exported: Exported, tmp_path) -> None:
    (tmp_path / "backbone.data").write_bytes((exported.artifact / "backbone.data").read_bytes())
    graphs = sorted(exported.artifact.rglob("model.onnx"))
    assert len(graphs) == len(TASKS) + 3
    for graph in graphs:
        (tmp_path / "model.onnx").write_bytes(graph.read_bytes())
        onnx.checker.check_model(str(tmp_path / "model.onnx"), full_check=True)


def test_graphs_say_where_they_come_from(exported: Exported) -> None:
    for task in TASKS:
        model = onnx.load(exported.artifact / "folded" / task / "model.onnx", load_external_data=False)
        notes = {item.key: item.value for item in model.metadata_props}
        assert model.producer_name == "propetl"
        assert notes["propetl.bundle_sha256"] == exported.bundle.sha256 or "later" in exported.bundle.packs
        assert json.loads(notes["propetl.tasks"]) == [task]
        assert json.loads(notes["propetl.labels"]) == {task: list(exported.bundle.info.tasks[task].labels)}


def test_no_path_of_this_machine_is_in_a_graph(exported: Exported) -> None:
    here = os.path.dirname(os.path.dirname(os.path.abspath(__file__))).encode()
    for graph in exported.artifact.rglob("model.onnx"):
        content = graph.read_bytes()
        assert here not in content
        assert b"site-packages" not in content


def test_masks_have_vanished_from_folded_graphs(exported: Exported) -> None:
    model = onnx.load(exported.artifact / "folded" / "two" / "model.onnx", load_external_data=False)
    assert {item.name for item in model.graph.input} == {"input_ids", "attention_mask", "token_type_ids"}
    names = {item.name for item in model.graph.initializer}
    assert not any("mask" in name for name in names)
    assert all(item.data_type != onnx.TensorProto.UINT8 for item in model.graph.initializer)


def test_a_standalone_folder_can_be_moved(exported: Exported, tmp_path) -> None:
    export_bundle(exported.bundle.path, tmp_path / "out", ExportOptions(tasks=("two",), standalone=True))
    folder = tmp_path / "out" / "folded" / "two"
    assert (folder / "backbone.data").stat().st_nlink == 1
    onnx.checker.check_model(str(folder / "model.onnx"), full_check=True)
    config = json.loads((folder / "config.json").read_text())
    assert config["architectures"] == ["BertForSequenceClassification"]
    assert config["id2label"] == {"0": "label 0", "1": "label 1"}
    assert (folder / "tokenizer.json").is_file()


def test_a_choice_of_tasks_is_all_that_is_exported(exported: Exported, tmp_path) -> None:
    export_bundle(exported.bundle.path, tmp_path / "out", ExportOptions(tasks=("five",)))
    with Session.open(tmp_path / "out") as session:
        assert session.tasks == ("five",)
    assert not (tmp_path / "out" / "tasks" / "two.safetensors").exists()


def refused(exported: Exported, tmp_path, error: type[Exception], words: str, **options: object) -> None:
    target = tmp_path / "refused"
    with pytest.raises(error, match=words):
        export_bundle(exported.bundle.path, target, ExportOptions(**options))
    assert not target.exists()
    assert not list(tmp_path.glob(".refused*"))


def test_what_cannot_be_exported_is_refused_before_anything_is_written(exported: Exported, tmp_path) -> None:
    refused(exported, tmp_path, TaskError, "'none'.*it has", tasks=("none",))
    refused(exported, tmp_path, ConfigurationError, "form 'frozen' is not known", forms=("frozen",))
    refused(exported, tmp_path, ConfigurationError, "opset 5", opset=5)
    refused(exported, tmp_path, ConfigurationError, "--merge-lora is for LoRA", merge_lora=True)
    other = tiny_backbone(tmp_path / "other", "bert", hidden=24, seed=1)
    refused(exported, tmp_path, BundleError, "fingerprint.*--backbone", backbone=str(other))


def test_an_artifact_that_is_there_is_kept(exported: Exported, tmp_path) -> None:
    (tmp_path / "out").mkdir()
    (tmp_path / "out" / "precious").write_text("mine")
    with pytest.raises(ConfigurationError, match="exists"):
        export_bundle(exported.bundle.path, tmp_path / "out", ExportOptions())
    assert (tmp_path / "out" / "precious").read_text() == "mine"


def test_a_failure_half_way_leaves_nothing(exported: Exported, tmp_path, monkeypatch) -> None:
    def full_disk(*_: object, **__: object) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr("propetl.export.writer.golden_bytes", full_disk)
    with pytest.raises(OSError, match="No space left"):
        export_bundle(exported.bundle.path, tmp_path / "out", ExportOptions(tasks=("two",)))
    assert list(tmp_path.iterdir()) == []


def test_merged_lora_takes_the_matrices_size(tmp_path) -> None:
    case = Case("bert", PrototypeConfig("lora", rank=2))
    beside = make(tmp_path / "a", case, ExportOptions())
    merged = make(tmp_path / "b", case, dataclasses.replace(ExportOptions(), merge_lora=True))
    sizes = [(item.artifact / "folded" / "two" / "model.onnx").stat().st_size for item in (beside, merged)]
    assert sizes[1] - sizes[0] > 2 * 2 * 24 * 24 * 4 - 2 * 2 * 2 * 2 * 24 * 4 - 8192
    assert np.isfinite(sizes).all()
