from pathlib import Path

import pytest

from propetl.data.find import split_files
from propetl.errors import DataError


def touch(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).touch()


@pytest.mark.parametrize(
    ("name", "split"),
    [
        ("train.tsv", "train"),
        ("train.jsonl", "train"),
        ("dev.csv", "dev"),
        ("dev_matched.tsv", "dev"),
        ("validation.parquet", "dev"),
        ("test.tsv", "test"),
        ("dev_mismatched.tsv", "dev_mismatched"),
    ],
)
def test_split_in_a_folder_of_tasks_and_of_one_task(tmp_path: Path, name: str, split: str) -> None:
    touch(tmp_path, f"rte/{name}", "rte/LICENSE.txt", "cola/train.tsv")
    expected = (tmp_path / "rte" / name,)
    assert split_files("rte", tmp_path, split) == expected
    assert split_files("rte", tmp_path / "rte", split) == expected


def test_a_file_is_the_split(tmp_path: Path) -> None:
    touch(tmp_path, "mine.csv")
    assert split_files("rte", tmp_path / "mine.csv", "dev") == (tmp_path / "mine.csv",)


def test_parts_of_a_parquet_table_come_in_order(tmp_path: Path) -> None:
    parts = [f"train-0000{part}-of-00002.parquet" for part in (0, 1)]
    touch(tmp_path, *reversed(parts), "train-notes.tsv")
    assert [path.name for path in split_files("rte", tmp_path, "train")] == parts


@pytest.mark.parametrize("hashes", [("", ""), ("-1f3a", "-07be")])
def test_all_parts_are_one_table_with_fingerprints_too(tmp_path: Path, hashes: tuple[str, str]) -> None:
    parts = [f"train-0000{part}-of-00002{hashes[part]}.parquet" for part in (0, 1)]
    touch(tmp_path, *parts)
    assert [path.name for path in split_files("rte", tmp_path, "train")] == parts


@pytest.mark.parametrize(
    ("names", "said"),
    [
        (["train-00000-of-00003.parquet", "train-00002-of-00003.parquet"], "of its 3 parts .from 0., there are 0, 2"),
        (["train-00001-of-00002.parquet"], "of its 2 parts .from 0., there are 1:"),
        (["train-00000-of-00001-1f.parquet", "train-00000-of-00001-2e.parquet"], "of its 1 parts .* 0, 0: give each"),
        (["train-00000-of-00001.parquet", "train.parquet"], "train.parquet are not of one table"),
        (["train-00000-of-00001.parquet", "train-00000-of-00002.parquet"], "are not of one table"),
    ],
)
def test_parts_that_are_not_one_whole_table_are_refused(tmp_path: Path, names: list[str], said: str) -> None:
    touch(tmp_path, *names)
    with pytest.raises(DataError, match=f"split 'train': .*{said}"):
        split_files("rte", tmp_path, "train")


def test_two_files_for_a_split_are_refused(tmp_path: Path) -> None:
    touch(tmp_path, "dev.tsv", "validation.tsv")
    with pytest.raises(DataError, match=r"holds dev\.tsv and validation\.tsv for split 'dev'"):
        split_files("rte", tmp_path, "dev")


def test_missing_split_says_what_is_there(tmp_path: Path) -> None:
    touch(tmp_path, "train.tsv", "notes.md")
    with pytest.raises(DataError, match=r"no file for split 'dev' of task 'rte'.*it holds notes\.md, train\.tsv"):
        split_files("rte", tmp_path, "dev")


def test_missing_source_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match="nowhere is not there"):
        split_files("rte", tmp_path / "nowhere", "dev")
