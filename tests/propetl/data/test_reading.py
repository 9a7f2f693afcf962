"""Class names, class indices and the data's own names are never mixed: the right class, or both are shown."""

import json
from pathlib import Path
from typing import Any

import datasets
import pandas
import pyarrow as arrow
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from propetl.data.label_values import label_value
from propetl.data.reading import classes_of
from propetl.data.tables import load_split, load_splits
from propetl.errors import DataError
from propetl.task import TaskSpec


def task(*labels: str, **more: Any) -> TaskSpec:
    return TaskSpec("own", ("text",), labels=labels, **more)


def written(folder: Path, values: list[Any], name: str = "train.jsonl") -> Path:
    path = folder / name
    path.write_text("".join(json.dumps({"text": "a", "label": value}) + "\n" for value in values))
    return path


def read(spec: TaskSpec, path: Path, max_rows: int | None = None) -> list[str]:
    return [spec.labels[label] for label in load_split(spec, path, "train", max_rows).labels]


@pytest.mark.parametrize(
    ("labels", "values", "said"),
    [
        (["1", "2", "3"], [0, 1, 2], ["1", "2", "3"]),
        (["1", "2", "3"], [0, 1], ["1", "2"]),
        (["1", "2", "3"], [3, 1, 2], ["3", "1", "2"]),
        (["1", "2", "3"], [3.0, 1.0, 2.0], ["3", "1", "2"]),
        (["0", "1"], [1, 0], ["1", "0"]),
        (["0", "2", "1"], [0], ["0"]),
        (["1.0", "2.0"], [2.0, 1.0], ["2.0", "1.0"]),
        (["01", "02"], ["02", "01"], ["02", "01"]),
        (["01", "02"], [0, 1], ["01", "02"]),
        (["no", "yes"], [1.0, 0.0], ["yes", "no"]),
        (["no", "yes"], [" 1 ", "0"], ["yes", "no"]),
        (["no", "yes"], ["yes ", "no"], ["yes", "no"]),
        (["true", "false"], [True, False], ["true", "false"]),
        (["True", "False"], [True, False], ["True", "False"]),
    ],
)
def test_one_reading_explains_every_label(
    tmp_path: Path, labels: list[str], values: list[Any], said: list[str]
) -> None:
    assert read(task(*labels), written(tmp_path, values)) == said


@pytest.mark.parametrize(
    ("labels", "values", "parts"),
    [
        (["1", "2", "3"], [1, 2], ["line 1: label '1' is class '1' by name and '2' by index", '"0": "1"', '"1": "1"']),
        (["1", "0"], [0, 1], ["line 1: label '0' is class '0' by name and '1' by index"]),
        (["01", "02", "03"], [1, 2], ["line 1: label '1' is class '01' by name and '02' by index"]),
        (["1.0", "2.0"], [1], ["by name and '2.0' by index"]),
        (["1", "2", "3"], [0, 2, 3], ["line 3: label '3' is a class name, but '0' (", "line 1) is a class index"]),
        (
            ["no", "yes"],
            ["yes", "yes", 0],
            ["line 3: label '0' is a class index, but 'yes' (", "line 1) is a class name"],
        ),
        (["no", "yes"], ["YES"], ["line 1", "'yes' differs from it in spelling only"]),
        (["not-so", "yes"], ["not so"], ["line 1", "'not-so' differs from it in spelling only"]),
        (["no", "yes"], [True], ["line 1", "'true' is unknown"]),
        (["no", "yes"], [[1]], ["line 1", "'[1]' is unknown"]),
        (["no", "yes"], [-1], ["line 1", "'-1' is unknown"]),
        (["no", "yes"], ["nan"], ["line 1", "'nan' is unknown"]),
        (["no", "yes"], [" "], ["line 1", "the label is empty"]),
    ],
)
def test_what_can_be_read_in_two_ways_is_refused(
    tmp_path: Path, labels: list[str], values: list[Any], parts: list[str]
) -> None:
    with pytest.raises(DataError) as error:
        read(task(*labels), written(tmp_path, values))
    message = str(error.value)
    assert "\n" not in message
    assert str(tmp_path) in message
    assert all(part in message for part in parts), message


@pytest.mark.parametrize(
    ("mapping", "values", "said"),
    [
        ({"0": "1", "1": "2", "2": "3"}, [1, 2], ["2", "3"]),
        ({"1": "1", "2": "2", "3": "3"}, [1, 2], ["1", "2"]),
        ({"1": "bad", "2": "bad", "4": "good"}, ["2", 4.0, "bad"], ["bad", "good", "bad"]),
        ({"1": "2", "2": "1"}, [1, 2], ["2", "1"]),
    ],
)
def test_a_mapping_says_which(tmp_path: Path, mapping: dict[str, str], values: list[Any], said: list[str]) -> None:
    spec = TaskSpec.from_mapping("own", {"columns": "text", "labels": mapping})
    assert read(spec, written(tmp_path, values)) == said


def test_a_mapping_that_gives_a_name_another_meaning_excludes_names(tmp_path: Path) -> None:
    spec = TaskSpec.from_mapping("own", {"columns": "text", "labels": {"0": "1", "1": "2", "2": "3"}})
    with pytest.raises(DataError, match="line 2: label '3' is unknown"):
        read(spec, written(tmp_path, [1, 3]))


def test_the_first_rows_are_read_as_all_are(tmp_path: Path) -> None:
    assert read(task("1", "2", "3"), written(tmp_path, [1, 2, 1, 0]), max_rows=2) == ["2", "3"]
    assert read(task("1", "2", "3"), written(tmp_path, [1, 2, 1, 3]), max_rows=2) == ["1", "2"]


class TestSplitsTogether:
    def test_a_dev_file_that_misses_a_class_is_read_as_train_is(self, tmp_path: Path) -> None:
        written(tmp_path, [0, 1, 2])
        dev = written(tmp_path, [1, 2], "dev.jsonl")
        spec, rows = load_splits(task("1", "2", "3"), tmp_path, ("train", "dev"))
        assert rows["dev"].labels.tolist() == [1, 2]
        assert spec.label_values == {"0": 0, "1": 1, "2": 2}
        assert load_split(spec, dev, "dev").labels.tolist() == [1, 2]
        with pytest.raises(DataError, match="say which"):
            load_split(task("1", "2", "3"), dev, "dev")

    def test_names_are_settled_too(self, tmp_path: Path) -> None:
        written(tmp_path, [3, 1, 2])
        dev = written(tmp_path, [1, 2], "dev.jsonl")
        spec, rows = load_splits(task("1", "2", "3"), tmp_path, ("train", "dev"))
        assert rows["dev"].labels.tolist() == [0, 1]
        assert load_split(spec, dev, "dev").labels.tolist() == [0, 1]

    def test_names_in_one_and_indices_in_the_other_are_refused(self, tmp_path: Path) -> None:
        written(tmp_path, ["no", "yes"])
        written(tmp_path, [0, 1], "dev.jsonl")
        with pytest.raises(DataError, match=r"dev.jsonl, line 1: label '0' is a class index, but 'no' \(.*train.jsonl"):
            load_splits(task("no", "yes"), tmp_path, ("train", "dev"))

    def test_usual_labels_leave_the_task_as_it_is(self, tmp_path: Path) -> None:
        written(tmp_path, [0, 1])
        written(tmp_path, [0], "dev.jsonl")
        spec = task("no", "yes")
        assert load_splits(spec, tmp_path, ("train", "dev"))[0] is spec


class TestNamesOfTheData:
    def named(self, folder: Path, names: list[str], values: list[int], name: str = "train.parquet") -> Path:
        features = datasets.Features(text=datasets.Value("string"), label=datasets.ClassLabel(names=names))
        path = folder / name
        rows = datasets.Dataset.from_dict({"text": ["a"] * len(values), "label": values}, features)
        rows.to_parquet(path)
        return path

    def test_numbers_mean_the_names(self, tmp_path: Path) -> None:
        path = self.named(tmp_path, ["3", "1", "2"], [0, 1, 2, 1])
        assert read(task("1", "2", "3"), path) == ["3", "1", "2", "1"]

    def test_a_name_that_never_occurs_does_not_matter(self, tmp_path: Path) -> None:
        assert read(task("b", "a"), self.named(tmp_path, ["a", "b", "hidden"], [0, 1])) == ["a", "b"]

    def test_another_order_is_noted(self, tmp_path: Path) -> None:
        path = self.named(tmp_path, ["a", "b"], [0, 1])
        note = load_split(task("b", "a"), path, "train").note
        assert note == f"{path} has the classes of task own in another order (a, b; here b, a): read by name"
        assert load_split(task("a", "b"), path, "train").note == ""

    def test_a_number_beyond_them_is_no_index_of_ours(self, tmp_path: Path) -> None:
        path = self.named(tmp_path, ["a", "b"], [0, 1])
        metadata = parquet.read_schema(self.named(tmp_path, ["a"], [0], "short.parquet")).metadata
        parquet.write_table(parquet.read_table(path).replace_schema_metadata(metadata), path)
        with pytest.raises(DataError, match=r"row 2: label 1 has no name, as the data's other numbers have"):
            read(task("a", "b"), path)

    def test_numbers_written_as_text_mean_the_names(self, tmp_path: Path) -> None:
        metadata = parquet.read_schema(self.named(tmp_path, ["b", "a"], [0])).metadata
        table = arrow.table({"text": ["x", "y"], "label": ["0", "a"]})
        parquet.write_table(table.replace_schema_metadata(metadata), tmp_path / "a.parquet")
        assert read(task("a", "b"), tmp_path / "a.parquet") == ["b", "a"]

    def test_names_that_are_the_numbers_say_nothing(self, tmp_path: Path) -> None:
        assert read(task("no", "yes"), self.named(tmp_path, ["0", "1"], [0, 1])) == ["no", "yes"]

    def test_a_missing_label_is_refused(self, tmp_path: Path) -> None:
        with pytest.raises(DataError, match="row 2: label '-1' is unknown"):
            read(task("a", "b"), self.named(tmp_path, ["a", "b"], [0, -1]))

    def test_a_mapping_that_contradicts_them_is_refused(self, tmp_path: Path) -> None:
        spec = TaskSpec.from_mapping("own", {"columns": "text", "labels": {0: "neg", 1: "pos"}})
        with pytest.raises(DataError, match=r"label 0 is 'pos' as the data's own name and 'neg' as the mapped number"):
            read(spec, self.named(tmp_path, ["pos", "neg"], [0, 1]))

    def test_plain_numbers_beside_them_have_to_agree(self, tmp_path: Path) -> None:
        self.named(tmp_path, ["b", "a"], [0, 1])
        written(tmp_path, [0, 1], "dev.jsonl")
        with pytest.raises(
            DataError, match=r"'0' is a class index, but 0 \('b'\).* a number that the data names itself"
        ):
            load_splits(task("a", "b"), tmp_path, ("train", "dev"))
        _, rows = load_splits(task("b", "a"), tmp_path, ("train", "dev"))
        assert rows["dev"].labels.tolist() == [0, 1]

    def test_tags_in_lists_and_labels_in_objects(self, tmp_path: Path) -> None:
        names = datasets.ClassLabel(names=["B", "O"])
        tags = datasets.Features(tokens=datasets.List(datasets.Value("string")), tags=datasets.List(names))
        path = tmp_path / "tags.parquet"
        datasets.Dataset.from_dict({"tokens": [["x", "y"]], "tags": [[0, 1]]}, tags).to_parquet(path)
        spec = TaskSpec("own", ("tokens",), "tags", "tagging", ("O", "B"), ("word_accuracy",))
        assert load_split(spec, path, "train").labels.tolist() == [("B", "O")]
        nested = datasets.Features(text=datasets.Value("string"), meta={"label": names})
        datasets.Dataset.from_dict({"text": ["x"], "meta": [{"label": 0}]}, nested).to_parquet(path)
        assert load_split(task("O", "B", label_column="meta.label"), path, "train").labels.tolist() == [1]

    def test_metadata_that_cannot_be_read_is_refused(self, tmp_path: Path) -> None:
        table = arrow.table({"text": ["a"], "label": [0]})
        for metadata in (b"{", b"[]", b'{"info": {"features": {"label": {"_type": "ClassLabel"}}}}', b"[" * 5000):
            parquet.write_table(table.replace_schema_metadata({"huggingface": metadata}), tmp_path / "a.parquet")
            with pytest.raises(DataError, match="metadata 'huggingface' cannot be read"):
                read(task("a", "b"), tmp_path / "a.parquet")


class TestPandas:
    @pytest.mark.parametrize(
        ("labels", "said"),
        [
            (pandas.Categorical(["yes", "no"], categories=["yes", "no"]), ["yes", "no"]),
            (pandas.Categorical([1, 0]), ["yes", "no"]),
            (pandas.array([1, 0], dtype="Int64"), ["yes", "no"]),
            (pandas.array([1, 0], dtype="float64"), ["yes", "no"]),
            (pandas.array(["yes", "no"], dtype="string"), ["yes", "no"]),
            (pandas.Series([1, 0], dtype="uint8"), ["yes", "no"]),
        ],
        ids=["categories", "numbers", "Int64", "float64", "string", "uint8"],
    )
    def test_columns_as_pandas_writes_them(self, tmp_path: Path, labels: Any, said: list[str]) -> None:
        pandas.DataFrame({"text": ["a", "b"], "label": labels}).to_parquet(tmp_path / "a.parquet")
        assert read(task("no", "yes"), tmp_path / "a.parquet") == said

    @pytest.mark.parametrize(
        "labels", [pandas.array([1, None], dtype="Int64"), pandas.array([1, None], dtype="float64")]
    )
    def test_a_gap_is_named(self, tmp_path: Path, labels: Any) -> None:
        frame = pandas.DataFrame({"text": ["a", "b"], "label": labels})
        frame.to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match="row 2: the label is empty"):
            read(task("no", "yes"), tmp_path / "a.parquet")
        frame.to_csv(tmp_path / "a.csv", index=False)
        with pytest.raises(DataError, match="line 3: the label is empty"):
            read(task("no", "yes"), tmp_path / "a.csv")

    @pytest.mark.parametrize("label", [b"yes", pandas.Timestamp("2020-01-01"), [1], {"a": 1}])
    def test_other_kinds_are_one_line(self, tmp_path: Path, label: Any) -> None:
        pandas.DataFrame({"text": ["a"], "label": [label]}).to_parquet(tmp_path / "a.parquet")
        with pytest.raises(DataError, match=r"a.parquet, row 1: label .* is unknown"):
            read(task("no", "yes"), tmp_path / "a.parquet")


NAMES = st.one_of(
    st.sampled_from(["0", "1", "2", "3", "01", "1.0", "2.0", "-1", "yes", "no", "Yes", "true", "A b", "a_b"]),
    st.text("01ab", min_size=1, max_size=2),
)


def distinct(names: list[str]) -> bool:
    try:
        task(*names)
    except Exception:
        return False
    return True


@settings(max_examples=400, deadline=None, suppress_health_check=[HealthCheck.filter_too_much])
@given(
    labels=st.lists(NAMES, min_size=2, max_size=4, unique=True).filter(distinct),
    classes=st.lists(st.integers(0, 3), min_size=1, max_size=6),
    order=st.randoms(use_true_random=False),
    encoding=st.sampled_from(["names", "indices", "own names", "floats"]),
)
def test_right_or_refused(labels: list[str], classes: list[int], order: Any, encoding: str) -> None:
    """Whatever a file holds by itself, every class that occurs in it among them, is read as it was meant."""
    spec = task(*labels)
    truth = [place % len(labels) for place in classes] + list(range(len(labels)))
    own = order.sample(labels, len(labels))
    raw = {
        "names": lambda place: label_value(labels[place], labels),
        "indices": lambda place: label_value(place, labels),
        "floats": lambda place: label_value(float(place), labels),
        "own names": lambda place: label_value(own.index(labels[place]), labels, own),
    }[encoding]
    values = [value for place in truth if (value := raw(place)) is not None]
    seen = {value: f"line {number}" for number, value in reversed(list(enumerate(values, start=1)))}
    try:
        found = classes_of(spec, seen)
    except DataError:
        return
    assert [found[value] for value in values] == truth
