"""Polygraphy reads what export leaves for it: run with its ONNX Runtime runner."""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import load_file, save_file

from propetl.errors import MissingExtraError
from propetl.export.options import ExportOptions
from propetl.export.polygraphy_files import SCRIPT, write_polygraphy_files
from propetl.export.writer import export_bundle
from propetl.runtime.artifact import Artifact, read_artifact
from propetl.runtime.manifest import GOLDEN_FILE
from tests.export.random_artifact import ALL_FORMS

pytest.importorskip("polygraphy")


@pytest.fixture(scope="module")
def recorded(lora, tmp_path_factory):
    """A LoRA in all forms, with records."""
    folder = tmp_path_factory.mktemp("polygraphy") / "an artifact"  # a blank in its path must do no harm
    export_bundle(lora[1].path, folder, ExportOptions(forms=(*ALL_FORMS, "bare"), polygraphy=True))
    return folder


def run(folder: Path, *flags: str) -> subprocess.CompletedProcess[str]:
    """The script, with the `polygraphy` of this environment."""
    path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
    command = ["bash", str(folder / "polygraphy" / SCRIPT), *flags]
    return subprocess.run(command, capture_output=True, text=True, timeout=300, env=os.environ | {"PATH": path})


def test_what_is_there(recorded):
    root = recorded / "polygraphy"
    found = {path.relative_to(root).as_posix() for path in root.rglob("*") if path.is_file()}
    records = {
        f"{form}/{task}/{name}.json"
        for form in ALL_FORMS
        for task in ("two", "three")
        for name in ("inputs", "outputs")
    }
    graphs = {f"{form}/{name}" for form in ("switchable", "bank") for name in ("model.onnx", "backbone.data")}
    assert found == records | graphs | {SCRIPT}
    assert (root / "bank" / "model.onnx").samefile(recorded / "bank" / "model.onnx")
    artifact = read_artifact(recorded)
    assert all(f"polygraphy/{name}" in artifact.manifest.files for name in found)


@pytest.mark.slow
def test_every_graph_passes(recorded):
    done = run(recorded)
    assert done.returncode == 0, done.stdout + done.stderr
    assert len(re.findall(r"onnxrt-runner\S* vs\. PyTorch \| Passed: 1/1 iterations", done.stdout)) == 6, done.stdout


@pytest.mark.parametrize(("precision", "tolerance"), [("fp32", "0.0001"), ("fp16", "0.01"), ("int8", "0.25")])
def test_the_precision_decides_what_is_close_enough(lora, precision, tolerance, tmp_path):
    export_bundle(lora[1].path, tmp_path / "artifact", ExportOptions(quantize=precision, polygraphy=True))
    commands = [line for line in script_of(tmp_path / "artifact") if line.startswith("polygraphy")]
    assert commands and all(f"--atol {tolerance} --rtol {tolerance} " in line for line in commands)


@pytest.mark.slow
def test_half_the_bits_pass(lora, tmp_path):
    export_bundle(lora[1].path, tmp_path / "artifact", ExportOptions(quantize="fp16", polygraphy=True))
    done = run(tmp_path / "artifact")
    assert done.returncode == 0, done.stdout + done.stderr


def script_of(folder: Path) -> list[str]:
    return (folder / "polygraphy" / SCRIPT).read_text().splitlines()


@pytest.mark.slow
def test_a_difference_is_found(recorded, tmp_path):
    """Of 0.01 in one logit of the first task; the second is compared all the same."""
    tensors = load_file(recorded / GOLDEN_FILE)
    with (recorded / GOLDEN_FILE).open("rb") as stream:
        header = json.loads(stream.read(int.from_bytes(stream.read(8), "little")))
    tensors["two/logits"] = tensors["two/logits"].copy()
    tensors["two/logits"][1, 1] += 0.01
    copy = tmp_path / "artifact"
    copy.mkdir()
    for name in ("folded", "tasks", "artifact.json"):
        (copy / name).symlink_to(recorded / name)
    save_file(tensors, copy / GOLDEN_FILE, metadata=header["__metadata__"])
    manifest = read_artifact(recorded, verify=False).manifest
    folded = type(manifest)(**vars_of(manifest) | {"forms": {"folded": manifest.forms["folded"]}})
    write_polygraphy_files(Artifact(copy, folded), standalone=False)
    done = run(copy)
    assert done.returncode == 1
    assert re.findall(r"Passed: \d/1 iterations", done.stdout) == ["Passed: 0/1 iterations", "Passed: 1/1 iterations"]


def vars_of(manifest):
    """Fields of a manifest, without what it computed from them."""
    return {name: getattr(manifest, name) for name in type(manifest).__dataclass_fields__}


def test_records_are_what_polygraphy_loads(recorded):
    from polygraphy.comparator import RunResults
    from polygraphy.json import from_json

    artifact = read_artifact(recorded)
    for form in ALL_FORMS:
        folder = recorded / "polygraphy" / form / "two"
        (feeds,) = from_json((folder / "inputs.json").read_text())
        info = artifact.manifest.forms[form]
        graph = info.graph or info.graphs["two"]
        assert {(name, array.dtype.name) for name, array in feeds.items()} == {
            (item.name, item.dtype) for item in graph.inputs
        }
        ((_, (result,)),) = RunResults.from_json((folder / "outputs.json").read_text()).lst
        expected = artifact.golden("two").logits
        assert np.array_equal(result["logits"][:, :2], expected)
        assert result["logits"].shape == (len(expected), 3 if form == "bank" else 2)


def test_without_polygraphy_nothing_is_begun(plain, tmp_path, monkeypatch):
    monkeypatch.setitem(sys.modules, "polygraphy", None)
    lines: list[str] = []
    with pytest.raises(MissingExtraError, match="--polygraphy needs 'polygraphy'"):
        export_bundle(plain[1].path, tmp_path / "out", ExportOptions(polygraphy=True), lines.append)
    assert list(tmp_path.iterdir()) == [] and lines == []
