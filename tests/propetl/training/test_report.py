"""The table at the end, and train.json."""

import io
from pathlib import Path

import pytest
from rich.console import Console

from propetl.bundle import read_bundle, write_bundle
from propetl.prototypes.spec import PrototypeConfig
from propetl.training.report import print_report, report_json
from propetl.training.result import RunResult, result_from_report
from tests.tiny_bundle import BACKBONE, random_contents

SCORES = {"first": {"accuracy": 0.75}, "second": {"accuracy": 0.5}}


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "run" / "bundle", random_contents(PrototypeConfig(bottleneck=3)))
    return read_bundle(tmp_path / "run" / "bundle")


@pytest.fixture
def result(bundle):
    return RunResult(bundle.path.parent, bundle.path, SCORES, 0.625, steps=30, best_step=20)


def test_the_report_counts_bits(result, bundle):
    report = report_json(result, {"device": "cpu"}, bundle)
    weights = 2 * 3 * 12
    assert report["storage"] == {
        "prototype_bits": 32 * (weights + 3 + 12),
        "layer_mask_bits": 0,
        "language_mask_bits": {},
        "backbone_bits": 32 * BACKBONE.parameters,
        "tasks": {
            "first": {"bits": 2 * weights, "head_bits": 32 * 2 * 13},
            "second": {"bits": 2 * weights, "head_bits": 32 * 3 * 13},
        },
    }
    assert report["conditions"] == {"device": "cpu"}


def test_the_result_comes_back_from_a_moved_folder(result, bundle, tmp_path):
    report = report_json(result, {}, bundle)
    found = result_from_report(tmp_path / "moved", report)
    assert found == RunResult(tmp_path / "moved", tmp_path / "moved" / "bundle", SCORES, 0.625, 30, 20, True)


def test_a_bundle_elsewhere_is_named_in_full(result, bundle):
    elsewhere = RunResult(Path("other"), bundle.path, SCORES, 0.625, 30, 20)
    assert result_from_report(Path("other"), report_json(elsewhere, {}, bundle)).bundle == bundle.path.absolute()


def test_the_table_names_scores_bits_and_shares(result, bundle):
    console = Console(file=io.StringIO(), width=100)
    print_report(console, result, bundle)
    output = console.file.getvalue()
    for part in ("first", "accuracy 0.7500", "144", f"{144 / 32 / BACKBONE.parameters:.3%}", "832", "step 20", "2,784"):
        assert part in output, part


def test_an_added_task_stands_alone_in_the_table(result, bundle):
    console = Console(file=io.StringIO(), width=100)
    print_report(console, RunResult(result.output, result.bundle, {"second": {"accuracy": 0.5}}, 0.5, 3, 2), bundle)
    assert "first" not in console.file.getvalue()


def test_what_hybrid_tasks_share_stands_once(tmp_path):
    config = PrototypeConfig(bottleneck=3, masks="hybrid", languages=("de", "en"))
    write_bundle(tmp_path / "bundle", random_contents(config))
    bundle = read_bundle(tmp_path / "bundle")
    result = RunResult(tmp_path, bundle.path, SCORES, 0.625, steps=30, best_step=20)
    console = Console(file=io.StringIO(), width=100)
    print_report(console, result, bundle)
    lines = console.file.getvalue().splitlines()
    mask = 2 * 3 * 12
    for name, bits in {"prototype": 2784, "layer masks": 2 * mask, "language de": mask, "language en": mask}.items():
        (line,) = [line for line in lines if f"{name}, once" in line]
        assert f" {bits:,} " in line
    stored = report_json(result, {}, bundle)["storage"]
    assert stored["layer_mask_bits"] == 2 * mask and stored["language_mask_bits"] == {"de": mask, "en": mask}
    assert stored["tasks"]["first"]["bits"] == mask
