"""Graphs tuned for this device: used here, and only here."""

import json
import logging
import os
import shutil
import signal
import subprocess
import sys

import numpy as np
import onnx
import onnxruntime
import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.errors import ArtifactError, ConfigurationError
from propetl.files import file_record, json_bytes
from propetl.runtime.artifact import read_manifest
from propetl.runtime.manifest import TUNED
from propetl.runtime.selftest import self_test
from propetl.runtime.session import Session
from propetl.runtime.tuned import PACKED_FILE, TUNED_MANIFEST, Device, read_tuned, this_device
from propetl.runtime.tuning import tune
from propetl.sealed import sealed
from tests.runtime.tiny_artifact import FORMS, write_tiny_artifact

TEXTS = ["good film", "a b c d e"]


@pytest.fixture
def tuned(own_tiny):
    assert tune(own_tiny.path)
    return own_tiny.path


def answers(path, form):
    with Session.open(path, form=form, threads=1) as session:
        return {task: session.run(task, TEXTS) for task in ("mood", "topic")}


def graphs_of(path):
    found = read_tuned(path)
    assert found is not None
    return found.graphs


def files_of(path):
    return {file.relative_to(path): file.read_bytes() for file in sorted(path.rglob("*")) if file.is_file()}


def edit(path, change, seal=sealed):
    file = path / TUNED / TUNED_MANIFEST
    value = json.loads(file.read_text())
    change(value)
    file.write_bytes(json_bytes(seal(value)))


@pytest.mark.parametrize("form", ["folded", "switchable", "bank"])
def test_answers_are_those_of_the_artifact_s_own_graphs(own_staged, form):
    before = answers(own_staged.path, form)
    tune(own_staged.path)
    for task, logits in answers(own_staged.path, form).items():
        np.testing.assert_allclose(logits, before[task], rtol=1e-6, atol=1e-6)


def test_every_graph_is_tuned_and_checked(tuned):
    assert {path.partition("/")[0] for path in graphs_of(tuned)} >= set(FORMS)
    assert self_test(tuned, threads=1).passed


def test_stages_are_tuned_too(own_staged):
    tune(own_staged.path)
    stages = read_manifest(own_staged.path).manifest.forms["bank"].stages
    assert stages is not None
    assert {stages.apply.path, stages.run["model"].path} <= set(graphs_of(own_staged.path))
    assert self_test(own_staged.path, threads=1).passed


def test_a_session_reads_the_tuned_graph(tuned):
    """With the artifact's own graph out of the way, only the tuned one can answer."""
    (tuned / "bank" / "model.onnx").write_bytes(b"")
    with Session.open(tuned, form="bank", threads=1, verify=False) as session:
        assert session.run("mood", TEXTS).shape == (2, 2)


def test_the_engine_has_nothing_to_complain_of(tuned, capfd):
    """ONNX Runtime warned of an option that was given twice, for each graph."""
    with Session.open(tuned, form="bank", threads=1):
        pass
    assert capfd.readouterr().err == ""


def test_small_memory_wants_no_packed_weights(tuned):
    (tuned / "bank" / "model.onnx").write_bytes(b"")
    with pytest.raises(ArtifactError, match=r"bank/model\.onnx"):
        Session.open(tuned, form="bank", threads=1, verify=False, memory="small")


def test_graphs_with_the_same_weights_share_a_file(tuned):
    graphs = {path: graph for path, graph in graphs_of(tuned).items() if path.startswith("folded/")}
    assert len(graphs) > 1 and len({graph.weights for graph in graphs.values()}) == 1


def test_tuning_twice_changes_nothing(tuned):
    before = files_of(tuned)
    assert not tune(tuned)
    assert files_of(tuned) == before


def test_the_artifact_itself_stays(own_tiny):
    before = files_of(own_tiny.path)
    tune(own_tiny.path)
    after = files_of(own_tiny.path)
    assert {name: after[name] for name in before} == before
    assert {name.parts[0] for name in after.keys() - before.keys()} == {TUNED}


@pytest.mark.parametrize(
    ("key", "value", "reason"),
    [
        ("onnxruntime", "0.1", "onnxruntime was 0.1 and is"),
        ("machine", "vax", "machine was vax and is"),
        ("cpu", "0" * 64, "the CPU has other features"),
    ],
)
def test_another_device_runs_the_artifact_s_own_graphs_and_says_so(tuned, caplog, key, value, reason):
    edit(tuned, lambda manifest: manifest["device"].update({key: value}))
    shutil.rmtree(tuned / TUNED / "bank")  # so that nothing of it could be run
    with caplog.at_level(logging.WARNING), Session.open(tuned, form="bank", threads=1, verify=False) as session:
        assert session.run("mood", TEXTS).shape == (2, 2)
    assert reason in caplog.text and "run propetl tune again" in caplog.text


def test_another_artifact_in_its_place_is_not_answered_by_old_graphs(tuned, caplog):
    manifest = tuned / "artifact.json"
    manifest.write_bytes(manifest.read_bytes() + b"\n")
    with Session.open(tuned, form="bank", threads=1):
        assert "they were made from another artifact.json" in caplog.text
    assert tune(tuned)
    caplog.clear()
    with Session.open(tuned, form="bank", threads=1):
        assert not caplog.text


def test_a_tuned_file_that_was_changed_is_found(tuned):
    file = tuned / TUNED / "bank" / "model.onnx"
    file.write_bytes(file.read_bytes()[:-1] + b"\0")
    with pytest.raises(ArtifactError, match=r"bank/model\.onnx"):
        Session.open(tuned, form="bank")
    with pytest.raises(ArtifactError, match=r"bank/model\.onnx"):
        tune(tuned)


@pytest.mark.parametrize("path", ["../artifact.json", "/etc/passwd"])
def test_paths_that_leave_the_folder_are_refused(tuned, path):
    edit(tuned, lambda value: value["files"].update({path: {"sha256": "0", "bytes": 1}}))
    with pytest.raises(ArtifactError, match="not a path inside the folder"):
        Session.open(tuned, form="bank", verify=False)


def test_a_file_that_is_not_listed_is_refused(tuned):
    edit(tuned, lambda value: value["files"].pop("bank/model.onnx"))
    with pytest.raises(ArtifactError, match=r"bank/model\.onnx is not among its files"):
        read_tuned(tuned)


@pytest.mark.parametrize(
    "change",
    [
        lambda value: value.update(device=None),
        lambda value: value["device"].update(cpu=3),
        lambda value: value["device"].update(colour="red"),
        lambda value: value.update(artifact_sha256=None),
        lambda value: value.update(graphs=[]),
        lambda value: value["graphs"].update({"bank/model.onnx": "bank/model.onnx"}),
        lambda value: value["graphs"]["bank/model.onnx"].update(weights=3),
        lambda value: value["graphs"]["bank/model.onnx"].update(path="bare/model.onnx"),
        lambda value: value["files"].update({"bank/model.onnx": None}),
        lambda value: value["files"]["bank/model.onnx"].update(bytes="1"),
        lambda value: value["files"]["bank/model.onnx"].pop("sha256"),
        lambda value: value.update(files=None),
    ],
)
@pytest.mark.parametrize("verify", [True, False])
def test_a_manifest_of_other_kinds_is_an_artifact_error(tuned, change, verify):
    edit(tuned, change)
    with pytest.raises(ArtifactError, match=r"not a valid manifest .*remove the folder tuned and run propetl tune"):
        Session.open(tuned, form="bank", threads=1, verify=verify)


@pytest.mark.parametrize(
    ("version", "help_"), [(1, "remove the folder tuned and run propetl tune"), (3, "upgrade propetl")]
)
def test_another_version_says_who_helps(tuned, version, help_):
    edit(tuned, lambda value: value.update(version=version))
    with pytest.raises(ArtifactError, match=rf"version {version} is not known here \(known: 2\); {help_}"):
        read_tuned(tuned)


def test_a_manifest_that_does_not_fit_itself_is_an_artifact_error(tuned):
    """Two tasks' graphs trade places, and nothing else is out of order."""

    def swap(value):
        graphs = value["graphs"]
        mood, topic = "folded/mood/model.onnx", "folded/topic/model.onnx"
        graphs[mood], graphs[topic] = graphs[topic], graphs[mood]

    edit(tuned, swap, seal=lambda value: value)
    with pytest.raises(ArtifactError, match="its content is not what its content_sha256 says"):
        Session.open(tuned, form="bank", threads=1, verify=False)
    edit(tuned, lambda value: None)
    with pytest.raises(ArtifactError, match=r"the tuned graph of folded/mood/model\.onnx stands at folded/topic"):
        Session.open(tuned, form="bank", threads=1, verify=False)


def test_the_folder_of_another_artifact_is_passed_over(tuned, tmp_path, caplog):
    other = write_tiny_artifact(tmp_path / "other", seed=1)
    shutil.copytree(tuned / TUNED, other.path / TUNED)
    with Session.open(other.path, form="folded", threads=1) as session:
        np.testing.assert_allclose(session.run("mood", TEXTS), other.expected("mood", TEXTS), atol=1e-5)
    assert "they were made from another artifact.json" in caplog.text


def packed_file(tuned, graph):
    found = read_tuned(tuned)
    assert found is not None
    return found.root / found.weights_of(graph)


@pytest.mark.parametrize("name", [PACKED_FILE, "backbone.data"])
def test_weights_that_change_after_they_were_hashed_are_not_run(tuned, name):
    file = packed_file(tuned, "folded/topic/model.onnx") if name == PACKED_FILE else tuned / name
    if name != PACKED_FILE:
        shutil.rmtree(tuned / TUNED)
    with Session.open(tuned, form="folded", threads=1) as session:
        before = session.run("mood", TEXTS)
        file.touch()  # another time, the same content
        np.testing.assert_array_equal(session.run("mood", TEXTS), before)
        session.run("entails", [("a", "b")])
        content = file.read_bytes()
        file.unlink()  # what is mapped already stays
        file.write_bytes(bytes(len(content)))
        with pytest.raises(ArtifactError, match=f"{file.name}: its SHA-256 is not the one"):
            session.run("topic", TEXTS)


def test_weights_that_change_while_they_are_mapped_are_not_run(tuned, monkeypatch):
    """The engine has mapped one file, and another of the same content stands there when it is hashed."""
    file = packed_file(tuned, "bank/model.onnx")
    start = onnxruntime.InferenceSession

    def replaced_meanwhile(*arguments, **options):
        session = start(*arguments, **options)
        content = file.read_bytes()
        file.unlink()
        file.write_bytes(content)
        return session

    monkeypatch.setattr(onnxruntime, "InferenceSession", replaced_meanwhile)
    with pytest.raises(ArtifactError, match="was changed while it was opened"):
        Session.open(tuned, form="bank", threads=1)


def test_a_folder_that_is_a_link_to_elsewhere_is_refused(tuned, tmp_path):
    (tuned / TUNED).rename(tmp_path / "elsewhere")
    (tuned / TUNED).symlink_to(tmp_path / "elsewhere")
    with pytest.raises(ArtifactError, match="is a link that leaves the folder"):
        Session.open(tuned, form="bank", threads=1)


def test_a_tuned_graph_with_weights_from_elsewhere_is_refused(tuned):
    file = tuned / TUNED / "bank/model.onnx"
    model = onnx.load(file, load_external_data=False)
    tensor = onnx.numpy_helper.from_array(np.zeros(4, dtype=np.float32), "stray")
    onnx.external_data_helper.set_external_data(tensor, "../../backbone.data", 0, 16)
    tensor.ClearField("raw_data")
    model.graph.initializer.append(tensor)
    file.write_bytes(model.SerializeToString())
    edit(tuned, lambda value: value["files"].update({"bank/model.onnx": file_record(file)}))
    with pytest.raises(ArtifactError, match=r"takes weights from '\.\./\.\./backbone\.data'"):
        Session.open(tuned, form="bank", threads=1)


def test_a_folder_that_is_somebody_else_s_is_left_alone(own_tiny):
    (own_tiny.path / TUNED).mkdir()
    (own_tiny.path / TUNED / "notes.txt").write_text("mine")
    with pytest.raises(ConfigurationError, match=TUNED_MANIFEST):
        tune(own_tiny.path)
    assert (own_tiny.path / TUNED / "notes.txt").read_text() == "mine"


def test_a_killed_tune_leaves_the_artifact_as_it_was(own_tiny):
    code = (
        "import os, signal, sys; from pathlib import Path; from propetl.runtime.tuning import tune\n"
        "tune(Path(sys.argv[1]), lambda line: os.kill(os.getpid(), signal.SIGKILL) if 'bank' in line else None)"
    )
    killed = subprocess.run([sys.executable, "-c", code, str(own_tiny.path)], env=os.environ, check=False)
    assert killed.returncode == -signal.SIGKILL
    assert read_tuned(own_tiny.path) is None
    assert self_test(own_tiny.path, threads=1).passed
    assert tune(own_tiny.path)


def test_the_command(own_tiny):
    first, second = (CliRunner().invoke(main, ["tune", str(own_tiny.path)]) for _ in range(2))
    assert (first.exit_code, second.exit_code) == (0, 0), first.output
    assert first.output.startswith("tuned: ") and second.output.startswith("was tuned already")
    assert all((own_tiny.path / TUNED / name).is_file() for name in (TUNED_MANIFEST, "bank/model.onnx"))
    assert list((own_tiny.path / TUNED).rglob(PACKED_FILE))


def test_validate_says_which_graphs_run(tuned):
    (check,) = [check for check in self_test(tuned, threads=1).checks if check.name == "tuned graphs"]
    assert check.passed and check.detail == ""
    edit(tuned, lambda manifest: manifest["device"].update(onnxruntime="0.1"))
    checked = CliRunner().invoke(main, ["validate", str(tuned), "--threads", "1"])
    assert checked.exit_code == 0, checked.output
    assert "not used here: onnxruntime was 0.1" in checked.output.replace("\n", " ")


def test_devices_differ_by_what_counts():
    here = this_device("1.0")
    assert here.difference(this_device("1.0")) is None
    assert Device("1.0", here.machine, "x").difference(here) == "the CPU has other features"
