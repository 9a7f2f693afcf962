"""A set over seeds: its runs, that none is repeated, and the table they give."""

import io
import json

import pytest
import yaml
from rich.console import Console

from propetl.errors import ConfigurationError
from propetl.reproduce import run as running
from propetl.reproduce.plan import ReproduceOptions, runs_of
from propetl.reproduce.results import AVERAGE_PLACE
from propetl.reproduce.run import reproduce
from propetl.reproduce.sets import read_sets
from propetl.reproduce.table import markdown_table, rich_table
from tests.propetl.reproduce.conftest import CONFIGS, SMALL


@pytest.fixture
def sets(tmp_path, roberta, glue):
    """Two experiments on two tasks, one of them trained alone."""
    folder = tmp_path / "configs"
    folder.mkdir()
    config = {"backbone": roberta, "data": glue, "output": "never", "tasks": ["rte", "mrpc"], **SMALL}
    (folder / "adapter.yaml").write_text(yaml.safe_dump(config | {"prototype": {"bottleneck": 4}}))
    (folder / "head.yaml").write_text(yaml.safe_dump(config | {"prototype": {"method": "head"}}))
    paper = {"rte": [76.5], "mrpc": [88.24, 91.41], "average": [85.38]}
    alone = {"separate": True, "by_task": {"rte": {"max_steps": 3}}, "paper": paper}
    rows = [{"name": "Adapter", "config": "adapter.yaml", **alone}, {"name": "Head", "config": "head.yaml"}]
    changed = [{"name": "0.25", "config": "adapter.yaml", "separate": True, "set": {"prototype.sparsity": 0.25}}]
    described = {
        "small": {"title": "A small set", "seeds": [1, 2], "rows": rows},
        "sweep": {"title": "A sweep", "seeds": [1], "rows": [rows[0], *changed]},
    }
    (folder / "sets.yaml").write_text(yaml.safe_dump(described))
    return read_sets(folder)


@pytest.fixture
def trained(monkeypatch):
    """Configurations that were really trained, in order."""
    calls = []
    real = running.train

    def train(config, **manner):
        (result,) = real(config, **manner)
        if not result.finished_before:
            calls.append((config.output.name, dict(config.tasks).keys(), config.seed))
        return [result]

    monkeypatch.setattr(running, "train", train)
    return calls


def test_runs_are_experiments_times_seeds_times_tasks(sets, tmp_path):
    runs = runs_of(sets.get("small"), sets.folder, ReproduceOptions(tmp_path / "out"))
    assert [(run.row, run.seed, run.tasks) for run in runs] == [
        ("Adapter", 1, ("rte",)),
        ("Adapter", 1, ("mrpc",)),
        ("Adapter", 2, ("rte",)),
        ("Adapter", 2, ("mrpc",)),
        ("Head", 1, ("rte", "mrpc")),
        ("Head", 2, ("rte", "mrpc")),
    ]
    assert [run.config.max_steps for run in runs[:2]] == [3, 2]  # by task
    assert all(run.config.seed == run.seed for run in runs)
    assert len({run.config.output for run in runs}) == len(runs)


def test_changes_win_over_the_set(sets, tmp_path):
    options = ReproduceOptions(tmp_path, (7,), ("rte",), ("Adapter",), {"max_steps": 1, "prototype.bottleneck": 2})
    (run,) = runs_of(sets.get("small"), sets.folder, options)
    assert (run.config.max_steps, run.config.prototype.bottleneck, run.seed) == (1, 2, 7)


def test_sets_share_runs_that_they_have_in_common(sets, tmp_path):
    one, other = (
        {run.config.output for run in runs_of(sets.get(name), sets.folder, ReproduceOptions(tmp_path))}
        for name in ("small", "sweep")
    )
    assert {path.relative_to(tmp_path).as_posix() for path in one & other} == {
        "adapter/seed-1/rte",
        "adapter/seed-1/mrpc",
    }


def test_the_papers_own_set_is_72_runs(tmp_path):
    sets = read_sets(CONFIGS)
    runs = runs_of(sets.get("glue-roberta"), CONFIGS, ReproduceOptions(tmp_path))
    assert len(runs) == 3 * 3 * 8
    epochs = {(run.tasks[0], run.config.epochs) for run in runs}
    assert epochs == {(task, 20.0) for task in ("cola", "mrpc", "stsb", "rte")} | {
        (task, 10.0) for task in ("sst2", "qqp", "mnli", "qnli")
    }


def test_it_runs_each_once_and_averages_over_seeds(sets, tmp_path, trained):
    options = ReproduceOptions(tmp_path / "out")
    results = reproduce(sets, "small", options)
    assert len(trained) == 6 and (results.done, results.planned) == (6, 6)
    again = reproduce(sets, "small", options)
    assert len(trained) == 6  # nothing was repeated
    assert again == results
    adapter, head = results.rows
    reports = [json.loads((tmp_path / f"out/adapter/seed-{seed}/mrpc/train.json").read_text()) for seed in (1, 2)]
    found = [100 * report["scores"]["mrpc"]["f1"] for report in reports]
    measured = adapter.ours["mrpc", "f1"]
    assert list(measured.by_seed.values()) == found
    assert measured.mean == pytest.approx(sum(found) / 2)
    assert measured.deviation == pytest.approx(abs(found[0] - found[1]) / 2**0.5)
    seed_1 = [values.by_seed[1] for place, values in adapter.ours.items() if place != AVERAGE_PLACE]
    assert adapter.ours[AVERAGE_PLACE].by_seed[1] == pytest.approx(sum(seed_1) / 3)  # f1 counts by itself
    assert adapter.paper["mrpc", "f1"] == 91.41 and not head.paper


def test_it_goes_on_after_a_kill_with_what_was_left(sets, tmp_path, trained, monkeypatch):
    counting = running.train

    def killed(config, **manner):
        if len(trained) == 3:
            raise KeyboardInterrupt
        return counting(config, **manner)

    monkeypatch.setattr(running, "train", killed)
    with pytest.raises(KeyboardInterrupt):
        reproduce(sets, "small", ReproduceOptions(tmp_path / "out"))
    partial = json.loads((tmp_path / "out" / "small.json").read_text())
    assert partial["runs"] == {"done": 3, "planned": 6}
    monkeypatch.setattr(running, "train", counting)
    assert reproduce(sets, "small", ReproduceOptions(tmp_path / "out")).done == 6
    assert len(trained) == 6


def test_another_setting_does_not_pass_for_a_run_that_has_ended(sets, tmp_path):
    only = {"seeds": (1,), "tasks": ("rte",), "rows": ("Adapter",)}
    reproduce(sets, "small", ReproduceOptions(tmp_path, **only))
    with pytest.raises(ConfigurationError, match=r"learning_rate is 0\.5, but the run in"):
        reproduce(sets, "small", ReproduceOptions(tmp_path, **only, overrides={"learning_rate": 0.5}))


def test_the_table_has_ours_beside_the_papers(sets, tmp_path):
    options = ReproduceOptions(tmp_path, seeds=(1,), rows=("Adapter",), overrides={"max_steps": 1})
    results = reproduce(sets, "small", options)
    ours = results.rows[0].ours
    lines = markdown_table(results).splitlines()
    assert lines[0] == "## A small set"
    assert lines[2] == "| task | metric | Adapter | paper |"
    assert f"| mrpc | f1 | {ours['mrpc', 'f1'].mean:.2f} | 91.41 |" in lines
    assert f"| average |  | {ours[AVERAGE_PLACE].mean:.2f} | 85.38 |" in lines
    assert "Not the paper's setting: max_steps=1." in lines[-1]
    shown = Console(width=100, record=True, file=io.StringIO())
    shown.print(rich_table(results))
    text = shown.export_text()
    assert "A small set" in text and f"{ours['rte', 'accuracy'].mean:.2f}" in text and "76.50" in text
    assert (tmp_path / "small.md").read_text() == markdown_table(results)


def test_a_copy_of_the_data_is_no_other_setting(sets, tmp_path):
    changes = {"data": "copy/of/glue", "threads": 2}
    results = reproduce(sets, "small", ReproduceOptions(tmp_path, overrides=changes), only_results=True)
    line = markdown_table(results).splitlines()[-1]
    assert "Data: copy/of/glue." in line and "Not the paper's setting" not in line


def test_what_was_not_run_is_a_dash(sets, tmp_path):
    options = ReproduceOptions(tmp_path)
    reproduce(sets, "small", ReproduceOptions(tmp_path, seeds=(1,), tasks=("rte",)))
    results = reproduce(sets, "small", options, only_results=True)
    table = markdown_table(results)
    assert "| mrpc | f1 | – | 91.41 | – |" in table
    assert "(1)" in table  # of two seeds
    assert "1 of 6 runs have ended." in table  # the head of one task is not the head of two
    assert (tmp_path / "head" / "seed-1-rte" / "train.json").exists()


def test_an_average_over_other_tasks_is_not_compared(sets, tmp_path):
    results = reproduce(sets, "small", ReproduceOptions(tmp_path, tasks=("rte",)), only_results=True)
    assert "| average |  | – | – | – |" in markdown_table(results)
    assert not (tmp_path / "small.md").exists()  # nothing has been run


class TestRefused:
    def test_a_set_that_is_not_there(self, sets, tmp_path):
        with pytest.raises(ConfigurationError, match=r"set 'big' is not in .*; it has small, sweep"):
            reproduce(sets, "big", ReproduceOptions(tmp_path))

    def test_a_row_or_a_task_that_is_not_there(self, sets, tmp_path):
        for options, words in [
            (ReproduceOptions(tmp_path, rows=("LoRA",)), "--row 'LoRA' is not in the set; it has Adapter, Head"),
            (ReproduceOptions(tmp_path, tasks=("qqp",)), "--task 'qqp' is not in adapter.yaml; it has rte, mrpc"),
        ]:
            with pytest.raises(ConfigurationError, match=words):
                runs_of(sets.get("small"), sets.folder, options)

    def test_a_folder_without_sets(self, tmp_path):
        with pytest.raises(ConfigurationError, match="no such file; run in a checkout"):
            read_sets(tmp_path)

    @pytest.mark.parametrize(
        ("text", "words"),
        [
            ("a: {title: x, seeds: [1], rows: [{name: n, config: c, sepparate: true}]}", "sepparate"),
            ("a: {title: x, seeds: [], rows: [{name: n, config: c}]}", "seeds"),
            ("a: {title: x, seeds: [1], rows: [{name: n, config: c}, {name: n, config: d}]}", "one name"),
            ("a: 3", "a"),
        ],
    )
    def test_a_file_of_sets_that_is_wrong(self, tmp_path, text, words):
        (tmp_path / "sets.yaml").write_text(text)
        with pytest.raises(ConfigurationError, match=words) as caught:
            read_sets(tmp_path)
        assert "\n" not in str(caught.value)
