import json
import os
import subprocess
import sys

import pytest
import yaml
from click.testing import CliRunner

from propetl.cli.main import main
from tests.device_env import ROOT
from tests.tiny_backbone import tiny_backbone


@pytest.fixture
def configs(tmp_path):
    """One experiment on one small task."""
    (tmp_path / "data" / "rte").mkdir(parents=True)
    for split in ("train", "dev"):
        rows = [f"{'good man' if row % 2 else 'bad dog'}\tis\t{row % 2}" for row in range(12)]
        (tmp_path / "data" / "rte" / f"{split}.tsv").write_text("\n".join(["sentence1\tsentence2\tlabel", *rows, ""]))
    config = {
        "backbone": str(tiny_backbone(tmp_path / "bert")),
        "data": "nowhere",
        "output": "never",
        "tasks": ["rte"],
        "prototype": {"method": "head"},
        "max_length": 16,
        "threads": 1,
        "device": "cpu",
        "tensorboard": False,
    }
    (tmp_path / "head.yaml").write_text(yaml.safe_dump(config))
    row = {"name": "Head", "config": "head.yaml", "paper": {"rte": [50.0]}}
    sets = {"heads": {"title": "Heads [alone]", "seeds": [1, 2], "rows": [row]}}
    (tmp_path / "sets.yaml").write_text(yaml.safe_dump(sets))
    return tmp_path


@pytest.fixture
def reproduce(configs):
    def run(*arguments):
        places = ["--configs", configs, "-o", configs / "out", "--data", configs / "data", "--max-steps", "1"]
        return CliRunner().invoke(main, ["reproduce", *map(str, [*arguments, *places])])

    return run


def test_without_a_set_they_are_listed(configs):
    result = CliRunner().invoke(main, ["reproduce", "--configs", str(configs)])
    assert result.exit_code == 0, result.stderr
    assert "heads" in result.stdout and "Heads [alone]" in result.stdout and "1, 2" in result.stdout


def test_runs_over_seeds_and_prints_the_table(reproduce, configs):
    result = reproduce("heads")
    assert result.exit_code == 0, result.stderr
    assert "1 of 2: Head, seed 1, rte" in result.stderr
    assert "Heads [alone]" in result.stdout and "50.00" in result.stdout and "±" in result.stdout
    again = reproduce("heads", "--markdown")
    assert again.exit_code == 0, again.stderr
    assert "(has ended before)" in again.stderr
    assert again.stdout == (configs / "out" / "heads.md").read_text()
    assert again.stdout.startswith("## Heads [alone]\n\n| task | metric | Head | paper |\n")


def test_of_several_processes_the_others_are_silent(reproduce, configs, monkeypatch):
    monkeypatch.setenv("RANK", "1")
    result = reproduce("heads", "--seeds", "3", "--json", configs / "report.json")
    assert (result.exit_code, result.stdout, result.stderr) == (0, "", "")
    assert not list((configs / "out").glob("heads.*")) and not (configs / "report.json").exists()


@pytest.mark.slow
def test_two_processes_print_one_table(configs):
    command = [sys.executable, "-m", "torch.distributed.run", "--standalone", "--nproc-per-node", "2", "-m", "propetl"]
    places = ["--configs", configs, "-o", configs / "out", "--data", configs / "data"]
    done = subprocess.run(
        [*command, "reproduce", "heads", *places, "--seeds", "1", "--max-steps", "1", "--markdown"],
        cwd=ROOT,
        env={**os.environ, "OMP_NUM_THREADS": "1"},
        capture_output=True,
        text=True,
        timeout=300,
    )
    assert done.returncode == 0, done.stderr
    assert done.stdout == (configs / "out" / "heads.md").read_text()
    assert done.stderr.count("1 of 1: Head, seed 1, rte") == 1


def test_json_alone_on_standard_output(reproduce):
    result = reproduce("heads", "--seeds", "3", "--json", "-")
    assert result.exit_code == 0, result.stderr
    report = json.loads(result.stdout)
    assert (report["set"], report["seeds"], report["overrides"]["max_steps"]) == ("heads", [3], 1)
    (score, average) = report["rows"][0]["scores"]
    assert score["paper"] == 50.0 and list(score["ours"]["seeds"]) == ["3"]
    assert average["task"] == "average"


def test_the_table_alone_trains_nothing(reproduce, configs):
    result = reproduce("heads", "--only-table")
    assert result.exit_code == 0, result.stderr
    assert "0 of 2 runs have ended" in " ".join(result.stdout.split())
    assert not (configs / "out").exists()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["none"], "set 'none' is not in"),
        (["heads", "--seeds", "1;2"], "--seeds '1;2': write whole numbers"),
        (["heads", "--row", "Tail"], "--row 'Tail' is not in the set; it has Head"),
        (["heads", "--set", "prototype.width=3"], "unknown key 'width'"),
        (["heads", "--json", "nowhere/file"], "there is no folder nowhere"),
    ],
)
def test_wrong_input_is_one_line(reproduce, arguments, words):
    result = reproduce(*arguments)
    assert result.exit_code == 2
    assert result.stderr.splitlines()[-1].startswith("propetl: error: ") and words in result.stderr
