import json

import numpy as np
import onnxruntime
import pytest

from propetl.export.options import ExportOptions
from propetl.export.triton_repository.writer import add_repository
from propetl.files import file_record
from propetl.runtime.artifact import read_artifact, read_manifest
from propetl.runtime.selftest import self_test
from tests.export.random_artifact import export
from tests.runtime.tiny_artifact import ROWS, write_tiny_artifact
from tests.runtime.tiny_tokenizer import token_ids


def test_graphs_and_weights_are_links_and_what_is_written_is_recorded(tmp_path):
    tiny = write_tiny_artifact(tmp_path / "artifact")
    records = add_repository(tiny.path, read_manifest(tiny.path).manifest, max_batch=8, standalone=False)
    on_disk = {path.relative_to(tiny.path).as_posix() for path in (tiny.path / "triton").rglob("*") if path.is_file()}
    assert set(records) == on_disk
    assert all(file_record(tiny.path / name) == record for name, record in records.items())
    weights = tiny.path / "triton/propetl-model/1/backbone.data"
    assert weights.samefile(tiny.path / "backbone.data")
    # Git and object stores keep files alone: a version without one would be gone, and its model with it.
    versions = {path.parent.name: path for path in (tiny.path / "triton").glob("*/1")}
    assert {"propetl", "propetl-task-mood"} <= versions.keys()
    assert all(any(path.iterdir()) for path in versions.values())


def test_a_standalone_repository_holds_copies(tmp_path):
    tiny = write_tiny_artifact(tmp_path / "artifact")
    add_repository(tiny.path, read_manifest(tiny.path).manifest, max_batch=8, standalone=True)
    weights = tiny.path / "triton/propetl-model/1/backbone.data"
    assert not weights.samefile(tiny.path / "backbone.data")
    assert weights.read_bytes() == (tiny.path / "backbone.data").read_bytes()


@pytest.mark.parametrize("forms", [("bank",), ("folded", "switchable", "bare")])
def test_forms_that_are_not_there_or_cannot_be_batched_are_passed_over(tmp_path, forms):
    tiny = write_tiny_artifact(tmp_path / "artifact", forms=forms)
    add_repository(tiny.path, read_manifest(tiny.path).manifest, max_batch=8, standalone=False)
    models = {path.name for path in (tiny.path / "triton").iterdir()}
    assert ("propetl" in models) == ("bank" in forms)
    assert ("propetl-task-mood" in models) == ("folded" in forms)
    assert not any("switchable" in name or "bare" in name for name in models)


def test_a_graph_is_loaded_by_its_path_as_triton_does(served):
    """Not by bytes, as a session does: weights have to be beside it."""
    session = onnxruntime.InferenceSession(
        served.path / "triton/propetl-model/1/model.onnx", providers=["CPUExecutionProvider"]
    )
    task_ids = read_manifest(served.path).manifest.forms["bank"].task_ids
    for task, rows in ROWS.items():
        feeds = token_ids(rows) | {"task_id": np.full(len(rows), task_ids[task])}
        (logits,) = session.run(["logits"], feeds)
        expected = served.expected(task, rows)
        np.testing.assert_allclose(logits[:, : expected.shape[1]], expected, atol=1e-5)


def test_settings_are_those_of_the_artifact(served):
    settings = json.loads((served.path / "triton/propetl-tokenise/1/propetl.json").read_text())
    manifest = read_manifest(served.path).manifest
    assert settings["max_length"] == manifest.max_length and settings["names_task"] is True
    assert {name: item["task_id"] for name, item in settings["tasks"].items()} == manifest.forms["bank"].task_ids
    folded = json.loads((served.path / "triton/propetl-tokenise-mood/1/propetl.json").read_text())
    assert list(folded["tasks"]) == ["mood"] and folded["names_task"] is False


def test_an_export_with_a_repository_is_an_artifact_like_any_other(plain, tmp_path):
    options = ExportOptions(forms=("folded", "bank"), triton=True, max_batch=4)
    backbone, bundle = plain
    made = export(backbone, bundle, tmp_path / "artifact", options)
    assert "triton/propetl-model/config.pbtxt" in made.manifest.files
    assert "max_batch_size: 4\n" in (made.artifact / "triton/propetl-model/config.pbtxt").read_text()
    read_artifact(made.artifact)
    assert self_test(made.artifact, threads=1).passed
    (made.artifact / "triton/propetl/config.pbtxt").write_text("name: 'changed'")
    assert not self_test(made.artifact, threads=1).passed
