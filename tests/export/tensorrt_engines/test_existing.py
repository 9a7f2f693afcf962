"""Engines for an artifact that is there: `propetl build`."""

import os
import subprocess
import sys
from dataclasses import replace

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.errors import ArtifactError, BackendError, ConfigurationError
from propetl.export.tensorrt_engines import existing
from propetl.export.tensorrt_engines.existing import add_engines
from propetl.export.tensorrt_engines.options import TensorRTOptions, parse_shapes
from propetl.export.tensorrt_engines.requirements import Graphs, check_graphs
from propetl.installation import install_line
from propetl.runtime.artifact import read_artifact
from propetl.runtime.engine_records import EngineInfo
from propetl.runtime.manifest import MANIFEST
from propetl.runtime.session import Session
from tests.device_env import ROOT
from tests.runtime.tiny_artifact import TASKS, write_tiny_artifact

trt = pytest.importorskip("tensorrt_rtx")


def quiet(*told):
    """Reports nothing."""


FORMS = ("bank", "switchable")


def options(*precisions, gpus=(86,), **chosen):
    return TensorRTOptions(("tensorrt-rtx",), precisions or ("fp32",), (parse_shapes("1x1/2x8/4x16"),), gpus, **chosen)


@pytest.fixture
def tiny(tmp_path):
    """A hand-made artifact of two tasks' folded graphs and a bank, which builds in a second."""
    return write_tiny_artifact(tmp_path / "artifact", forms=FORMS)


def test_engines_are_added_and_the_artifact_stays_whole(tiny):
    before = read_artifact(tiny.path).manifest
    manifest = add_engines(tiny.path, options("fp32", "fp16"), quiet, quiet)
    artifact = read_artifact(tiny.path)  # every hash
    assert artifact.manifest == manifest
    assert replace(manifest, engines=(), files=before.files) == before
    found = {(str(engine.name), engine.precision) for engine in manifest.engines}
    assert found == {(form, precision) for form in ("bank", "switchable") for precision in ("fp32", "fp16")}
    assert not list(tiny.path.glob(".engines.*"))
    with Session.open(tiny.path, form="bank") as session:
        assert session.run("mood", ["good"]).shape == (1, 2)


def test_the_same_engine_is_replaced_and_others_stay(tiny):
    add_engines(tiny.path, options("fp32", "fp16"), quiet, quiet)
    add_engines(tiny.path, options("fp16", gpus=(89, 120)), quiet, quiet)
    engines = read_artifact(tiny.path).manifest.engines
    found = {(engine.precision, engine.compute_capabilities) for engine in engines}
    assert len(engines) == 4 and found == {("fp32", (86,)), ("fp16", (89, 120))}


@pytest.mark.parametrize("moved", [0, 1])
def test_an_artifact_is_whole_whenever_the_process_is_killed(tiny, monkeypatch, moved):
    """Between any two of the files that are moved into it."""
    add_engines(tiny.path, options(), quiet, quiet)
    calls = []

    def dies(source, target):
        if str(target).endswith(".plan"):
            calls.append(target)
            if len(calls) > moved:
                raise KeyboardInterrupt
        os.rename(source, target)

    monkeypatch.setattr(existing.os, "replace", dies)
    with pytest.raises(KeyboardInterrupt):
        add_engines(tiny.path, options(gpus=(120,)), quiet, quiet)
    assert read_artifact(tiny.path).manifest.engines == ()
    assert not list(tiny.path.glob(".engines.*"))


def test_nothing_is_written_if_a_build_fails(tiny, monkeypatch):
    before = (tiny.path / MANIFEST).read_bytes()
    monkeypatch.setattr(existing, "build_engines", lambda *given: (_ for _ in ()).throw(BackendError("no")))
    with pytest.raises(BackendError):
        add_engines(tiny.path, options(), quiet, quiet)
    assert (tiny.path / MANIFEST).read_bytes() == before
    assert not (tiny.path / "engines").exists() and not list(tiny.path.glob(".engines.*"))


def test_a_damaged_artifact_is_refused(tiny):
    (tiny.path / "bank/model.onnx").write_bytes(b"nonsense")
    with pytest.raises(ArtifactError, match=r"bank/model\.onnx"):
        add_engines(tiny.path, options(), quiet, quiet)


GRAPHS = Graphs("standard", "fp32", 20, ("bank",), generate=False)


@pytest.mark.parametrize(
    ("graphs", "asked", "words"),
    [
        (replace(GRAPHS, operators="onnxruntime"), {}, "export without --operators onnxruntime"),
        (replace(GRAPHS, precision="int8"), {}, "export without --quantize int8"),
        (replace(GRAPHS, opset=18), {"precisions": ("int8",)}, "needs --opset 19 or later; got 18"),
        (GRAPHS, {"refit": True}, "add --form folded"),
        (GRAPHS, {"max_new_tokens": 5}, "--max-new-tokens is for backbones that generate"),
        (replace(GRAPHS, generate=True), {"precisions": ("int8",)}, "--precision int8 is for tasks with heads"),
        (replace(GRAPHS, generate=True, forms=("folded",)), {"refit": True}, "--refit is for tasks with heads"),
    ],
)
def test_graphs_that_engines_cannot_be_built_from(graphs, asked, words):
    with pytest.raises(ConfigurationError, match=words) as caught:
        check_graphs(TensorRTOptions(("tensorrt-rtx",), **asked), graphs)
    assert "\n" not in str(caught.value)


def test_the_command(tiny):
    words = ["build", str(tiny.path), "--target", "tensorrt-rtx", "--sm", "86,89", "--profile", "1x1/1x8/2x16"]
    done = CliRunner().invoke(main, words)
    assert done.exit_code == 0, done.output
    assert "switchable" in done.output and "SM 86, SM 89" in done.output
    assert "batch 1/1/2, sequence 1/8/16" in done.output and f"added to {tiny.path}" in done.output
    assert all(isinstance(engine, EngineInfo) for engine in read_artifact(tiny.path).manifest.engines)


def test_the_command_wants_a_target(tiny):
    done = CliRunner().invoke(main, ["build", str(tiny.path)])
    assert done.exit_code == 2 and "say which engines by --target tensorrt or tensorrt-rtx" in done.output


WITHOUT = """
import sys
class Refuse:
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in set(sys.argv[1].split(",")):
            raise ModuleNotFoundError(f"No module named {name!r}", name=name)
sys.meta_path.insert(0, Refuse())
from propetl.cli.main import main
main(sys.argv[2:])
"""
"""Runs the command line where the modules of the first argument are not installed."""

TRAINS = "torch,transformers,onnxscript,datasets,pyarrow,pandas,sklearn,scipy,accelerate,pydantic,yaml"


def build_without(modules, *words):
    build = ["build", *map(str, words), "--target", "tensorrt-rtx", "--sm", "86"]
    command = [sys.executable, "-c", WITHOUT, modules, *build]
    return subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120)


def test_another_process_gives_the_builder_the_same_bytes(tmp_path):
    """Whatever the order of its sets; plans made of them may differ, see docs/exporting.md."""
    code = """
import hashlib, sys
from pathlib import Path
from propetl.export.tensorrt_engines import engines
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.artifact import read_artifact
options = TensorRTOptions(("tensorrt-rtx",), ("fp32", "fp16", "bf16", "int8"), compute_capabilities=(86,))
source = engines._Source(read_artifact(Path(sys.argv[1])), Path(sys.argv[2]), options, lambda line: None)
graphs = [hashlib.sha256(item.graph.content).hexdigest() for item in engines._lowered(source, Path(sys.argv[2]))]
weights = [hashlib.sha256(path.read_bytes()).hexdigest() for path in sorted(Path(sys.argv[2]).glob("*.data"))]
print(len(graphs), len(weights), *graphs, *weights)
"""
    path, told = write_tiny_artifact(tmp_path / "artifact", forms=("folded", *FORMS), staged=True).path, []
    for seed in ("1", "2"):
        (folder := tmp_path / seed).mkdir()
        command, seeded = [sys.executable, "-c", code, str(path), str(folder)], os.environ | {"PYTHONHASHSEED": seed}
        done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, env=seeded)
        assert done.returncode == 0, done.stderr
        told.append(done.stdout.split())
    assert told[0][:2] == ["32", "4"] and told[0] == told[1]


def test_no_pytorch_is_needed(tiny):
    """A device has an artifact, and neither the bundle nor what trained it."""
    done = build_without(f"{TRAINS},onnxruntime", tiny.path, "--precision", "fp32")
    assert done.returncode == 0, done.stderr
    assert len(read_artifact(tiny.path).manifest.engines) == 2


def test_fp16_needs_onnx_runtime_which_finds_what_overflows(tiny):
    refused = build_without(f"{TRAINS},onnxruntime", tiny.path, "--precision", "fp16")
    assert refused.returncode == 2 and "needs 'onnxruntime', which is not installed" in refused.stderr
    assert not read_artifact(tiny.path).manifest.engines
    done = build_without(TRAINS, tiny.path, "--precision", "fp16")
    assert done.returncode == 0, done.stderr
    assert len(read_artifact(tiny.path).manifest.engines) == 2


def test_no_pytorch_is_needed_to_calibrate_on_task_data(tiny, tmp_path):
    """As before, but for ONNX Runtime, which measures the ranges."""
    for task, info in TASKS.items():
        (tmp_path / "data" / task).mkdir(parents=True)
        label = "0" if info.labels else "0.5"
        lines = ["\t".join((*info.columns, "label")), *("\t".join((*["good film"] * len(info.columns), label)),) * 5]
        (tmp_path / "data" / task / "train.tsv").write_text("\n".join(lines) + "\n")
    done = build_without(TRAINS, tiny.path, "--precision", "int8", "--calibration", tmp_path / "data")
    assert done.returncode == 0, done.stderr
    engines = read_artifact(tiny.path).manifest.engines
    assert {engine.calibration_rows for engine in engines} == {5 * len(TASKS)}


def test_a_missing_extra_is_named():
    from propetl.cli.failures import missing_extra

    missing = ModuleNotFoundError("No module named 'no_such'", name="onnx_ir")
    from unittest.mock import patch

    with patch("propetl.cli.failures._is_installed", return_value=False):
        error = missing_extra(missing, "build")
    assert error is not None and install_line("build") in str(error)
