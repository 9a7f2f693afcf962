"""The hub itself is not asked: ``datasets`` answers from memory."""

import sys
from typing import Any

import datasets
import pytest

from propetl.data.tables import load_split
from propetl.data.tasks import TASKS
from propetl.errors import DataError, MissingExtraError
from propetl.task import TaskSpec


@pytest.fixture
def asked(monkeypatch: pytest.MonkeyPatch) -> list[tuple[Any, ...]]:
    """A hub that holds RTE with its two classes the other way round; the list of what it was asked for."""
    calls: list[tuple[Any, ...]] = []
    features = datasets.Features(
        sentence1=datasets.Value("string"),
        sentence2=datasets.Value("string"),
        label=datasets.ClassLabel(names=["not_entailment", "entailment"]),
    )
    rows = {"sentence1": ["a", "b", "c"], "sentence2": ["d", "e", "f"], "label": [0, 1, -1]}

    def load_dataset(name: str, config: str | None, split: str) -> datasets.Dataset:
        calls.append((name, config, split))
        return datasets.Dataset.from_dict(rows, features, split=datasets.NamedSplit(split))

    monkeypatch.setattr(datasets, "load_dataset", load_dataset)
    monkeypatch.setattr(datasets, "get_dataset_config_names", lambda name: ["cola", "rte"])
    monkeypatch.setattr(datasets, "get_dataset_split_names", lambda name, config: ["train", "validation"])
    return calls


@pytest.mark.parametrize(
    ("source", "split", "call"),
    [
        ("hub:nyu-mll/glue/rte", "dev", ("nyu-mll/glue", "rte", "validation")),
        ("hub:nyu-mll/glue", "train", ("nyu-mll/glue", "rte", "train")),
        ("hub:imdb", "train", ("imdb", "rte", "train")),
    ],
)
def test_what_the_hub_is_asked_for(
    asked: list[tuple[Any, ...]], source: str, split: str, call: tuple[str, ...]
) -> None:
    load_split(TASKS["rte"], source, split, max_rows=2)
    assert asked == [call]


def test_no_configuration_where_none_is_named_like_the_task(asked: list[tuple[Any, ...]]) -> None:
    spec = TaskSpec("mine", ("sentence1",), labels=("entailment", "not_entailment"))
    load_split(spec, "hub:owner/set", "train", max_rows=2)
    assert asked == [("owner/set", None, "train")]


@pytest.mark.usefixtures("asked")
def test_classes_are_matched_by_name() -> None:
    rows = load_split(TASKS["rte"], "hub:nyu-mll/glue/rte", "train", max_rows=2)
    assert rows.texts == [("a", "d"), ("b", "e")]
    assert [TASKS["rte"].labels[label] for label in rows.labels] == ["not_entailment", "entailment"]
    assert rows.source == "hub:nyu-mll/glue/rte:train"


@pytest.mark.usefixtures("asked")
def test_names_that_the_task_does_not_have_are_refused() -> None:
    spec = TaskSpec("rte", ("sentence1",), labels=("first", "second"))
    with pytest.raises(DataError, match=r"row 1: label 0 is 'not_entailment' by the data's own .* 'first', 'second'"):
        load_split(spec, "hub:nyu-mll/glue", "train", max_rows=2)


@pytest.mark.usefixtures("asked")
@pytest.mark.parametrize("labels", [{"entailment": "second", "not_entailment": "first"}, {0: "first", 1: "second"}])
def test_names_and_numbers_of_the_data_can_be_mapped(labels: dict[Any, str]) -> None:
    spec = TaskSpec.from_mapping("rte", {"columns": "sentence1", "labels": labels})
    rows = load_split(spec, "hub:nyu-mll/glue", "train", max_rows=2)
    assert [spec.labels[label] for label in rows.labels] == ["first", "second"]


@pytest.mark.usefixtures("asked")
def test_row_without_a_label_is_refused() -> None:
    with pytest.raises(DataError, match=r"hub:nyu-mll/glue/rte:train, row 3: label '-1' is unknown"):
        load_split(TASKS["rte"], "hub:nyu-mll/glue", "train")


@pytest.mark.usefixtures("asked")
def test_unknown_split_is_refused() -> None:
    with pytest.raises(DataError, match="no split 'test': it has train, validation"):
        load_split(TASKS["rte"], "hub:nyu-mll/glue", "test")


@pytest.mark.parametrize("source", ["hub:", "hub:/x", "hub:a/b/c/d"])
def test_source_that_names_no_set_is_refused(source: str) -> None:
    with pytest.raises(DataError, match="names no data set"):
        load_split(TASKS["rte"], source, "train")


@pytest.mark.usefixtures("asked")
def test_hub_failure_is_one_line(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail(name: str) -> None:
        raise ConnectionError("no\nroute")

    monkeypatch.setattr(datasets, "get_dataset_config_names", fail)
    with pytest.raises(DataError, match="hub:x/y cannot be had from the hub: no route: check"):
        load_split(TASKS["rte"], "hub:x/y", "train")


@pytest.mark.parametrize("source", ["hub:x/y", "data.parquet"])
def test_missing_library_says_what_to_install(monkeypatch: pytest.MonkeyPatch, tmp_path: Any, source: str) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    if not source.startswith("hub:"):
        (tmp_path / source).touch()
        source = str(tmp_path / source)
    with pytest.raises(MissingExtraError, match=r"pip install .*\[train\]'"):
        load_split(TASKS["rte"], source, "train")
