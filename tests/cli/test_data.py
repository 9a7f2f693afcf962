from pathlib import Path

import pytest
from click.testing import CliRunner

from propetl.cli.main import main
from propetl.data.generated import GENERATED, write_generated

SMALL = ("--train-rows", "24", "--dev-rows", "12")


def test_writes_all_tasks_and_shows_rows_of_each(tmp_path: Path) -> None:
    result = CliRunner().invoke(main, ["data", str(tmp_path / "new"), *SMALL])
    assert result.exit_code == 0, result.output
    for name in GENERATED:
        first = (tmp_path / "new" / name / "train.tsv").read_text().splitlines()[1].split("\t")[0]
        assert first in result.output
        assert (tmp_path / "new" / name / "dev.tsv").is_file()
    assert f"written to {tmp_path / 'new'}, seed 0" in result.output


def test_task_may_be_repeated(tmp_path: Path) -> None:
    flags = ("--task", "roles", "--task", "topic", "--task", "roles")
    result = CliRunner().invoke(main, ["data", str(tmp_path / "new"), *flags, *SMALL])
    assert result.exit_code == 0, result.output
    assert sorted(path.name for path in (tmp_path / "new").iterdir()) == ["generated.json", "roles", "topic"]


def test_writes_what_the_function_writes(tmp_path: Path) -> None:
    CliRunner().invoke(main, ["data", str(tmp_path / "a"), "--task", "verdict", "--seed", "7", *SMALL])
    write_generated(tmp_path / "b", ["verdict"], 24, 12, seed=7)
    for split in ("train", "dev"):
        command, function = (tmp_path / side / "verdict" / f"{split}.tsv" for side in "ab")
        assert command.read_bytes() == function.read_bytes()


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        (["."], "not empty and was not written by propetl data"),
        (["new", "--task", "mood"], "task 'mood' is not generated: use one of verdict"),
    ],
)
def test_refusals_are_one_line_and_exit_2(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], words: str
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "thesis.txt").write_text("mine")
    result = CliRunner().invoke(main, ["data", *arguments, *SMALL])
    assert result.exit_code == 2
    assert words in result.stderr
    assert len(result.stderr.splitlines()) == 1
    assert [path.name for path in tmp_path.iterdir()] == ["thesis.txt"]


def test_sizes_below_one_are_a_usage_error(tmp_path: Path) -> None:
    assert CliRunner().invoke(main, ["data", str(tmp_path / "new"), "--dev-rows", "0"]).exit_code == 2


def test_help_shows_an_example() -> None:
    result = CliRunner().invoke(main, ["data", "--help"])
    assert result.exit_code == 0
    assert "propetl data demo/data --task verdict --task likeness --train-rows 2000" in result.output
