"""What the benchmark scripts conclude from figures; the figures themselves are for a quiet machine."""

import json
from importlib import import_module

import pytest

from tests.device_env import ROOT


@pytest.fixture
def script(monkeypatch):
    """Imports a script of the benchmarks, which stand in no package."""
    monkeypatch.syspath_prepend(str(ROOT / "benchmarks"))
    return import_module


def test_a_figure_may_be_worse_by_its_spread_and_no_more(script):
    guard = script("guard")
    known = {"a": [1.0, 1.01, 0.99], "b": [2.0, 2.05, 1.95]}
    assert guard.compare(known, {"a": 1.02, "b": 1.5}) == []
    (worse,) = guard.compare(known, {"a": 1.021, "b": 2.0})
    assert worse == "a: 1.021, recorded 1.000 with a spread of 0.020"
    (unknown,) = guard.compare(known, {"a": 1.0, "c": 1.0})
    assert unknown.startswith("c: not on record")


def test_the_guard_ends_with_an_error_where_one_is_worse(script, monkeypatch, tmp_path):
    guard = script("guard")
    monkeypatch.setattr(guard, "RESULTS", tmp_path / "targets.json")
    monkeypatch.setattr("sys.argv", ["guard.py", "--work", str(tmp_path)])
    with pytest.raises(SystemExit, match=r"targets\.py"):
        guard.main()
    (tmp_path / "targets.json").write_text(json.dumps({"figures": {"a": [0.95, 1.0, 1.05]}}))
    for found, code in ((1.05, 0), (1.2, "a: 1.200, recorded 1.000 with a spread of 0.100")):
        monkeypatch.setattr(guard, "measured", lambda _, found=found: {"a": found})
        with pytest.raises(SystemExit) as ended:
            guard.main()
        assert ended.value.code == code


def test_targets_hold_by_their_median(script):
    targets = script("targets")
    text = targets.table(
        {"folded to bare": [1.0, 1.02, 1.2], "adding a task, ms": [9.0, 11.0, 12.0], "tuned to bare": [1]}
    )
    lines = {line.split("|")[1].strip(): line for line in text.splitlines() if line.startswith("| ")}
    assert lines["folded to bare"].endswith("| ≤ 1.03 | 1.020 | 1.000 – 1.200 | holds |")
    assert lines["adding a task, ms"].endswith("| ≤ 10 | 11.000 | 9.000 – 12.000 | missed |")
    assert lines["tuned to bare"].endswith("| – | 1.000 | 1.000 – 1.000 |  |")
    assert "not measured: " in text and "switchable to folded" in text


def test_operations_and_bytes_are_counted_as_the_page_says(script):
    floor = script("floor")
    small = floor.Encoder("small", layers=1, hidden=2, inner=4, bottleneck=1)
    cell = floor.Cell(1, 3)
    assert small.backbone_ops(cell) == 2 * 3 * (4 * 4 + 2 * 2 * 4 + 2 * 3 * 2)
    assert small.adapter_ops(cell) == 2 * 3 * 2 * 2 * 1
    assert small.weight_bytes == 4 * (4 * 4 + 2 * 2 * 4)
    assert small.mask_bytes("folded") == small.mask_bytes("staged") == 0
    assert floor.MINILM.adapter_entries == 6 * 2 * 384 * 32
    slow = floor.Ceilings(gemm=1e3, bandwidth=1e12)
    assert slow.floor_ms(small, cell) == pytest.approx(small.backbone_ops(cell))
    assert floor.Ceilings(1e12, 1e3).floor_ms(small, cell) == pytest.approx(small.weight_bytes)


def test_the_reference_way_of_masks_is_the_same_mask(script):
    """A peer that computed something else would be no peer."""
    torch = pytest.importorskip("torch")
    step, masks = script("training_step"), import_module("propetl.masks")
    scores = torch.rand(3, 101)
    for kept in (0, 1, 50, 101):
        assert torch.equal(step.sorted_mask(scores, kept), masks.top_k_mask(scores, kept))
