import json
from pathlib import Path

import numpy as np
import pyarrow as arrow
import pytest
from hypothesis import given
from hypothesis import strategies as st
from pyarrow import parquet

from propetl.data.tables import Rows, chosen, load_split
from propetl.data.tasks import TASKS
from propetl.errors import ConfigurationError, DataError
from propetl.task import TaskSpec

SINGLE = TaskSpec("own", ("text",), labels=("no", "yes"))
PAIR = TaskSpec("own", ("left", "right"), labels=("no", "yes"))
STARS = TaskSpec("stars", ("text",), problem="regression", metrics=("pearson",))

# shared/data/README.md
GLUE_ROWS = {
    "cola": (8551, 1043),
    "sst2": (67349, 872),
    "mrpc": (3668, 408),
    "stsb": (5749, 1500),
    "rte": (2490, 277),
    "qnli": (9999, 5463),
    "qqp": (20000, 5000),
    "mnli": (9999, 9815),
}
GLUE_SHARE_OF_CLASS_1 = {
    "cola": 0.691,
    "sst2": 0.509,
    "mrpc": 0.684,
    "rte": 0.473,
    "qnli": 0.505,
    "qqp": 0.372,
}


def file(folder: Path, name: str, content: str | bytes) -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    return path


def refusal(path: Path, spec: TaskSpec = SINGLE) -> str:
    """The message of the refusal: one line, with the file's name."""
    with pytest.raises(DataError) as caught:
        load_split(spec, path, "train")
    message = str(caught.value)
    assert "\n" not in message
    assert str(path) in message
    return message


@pytest.mark.parametrize("task", GLUE_ROWS)
def test_glue_is_read_whole(glue_dir: Path, task: str) -> None:
    train, dev = (load_split(TASKS[task], glue_dir, split) for split in ("train", "dev"))
    assert (len(train), len(dev)) == GLUE_ROWS[task]
    assert {len(texts) for texts in (*train.texts, *dev.texts)} == {len(TASKS[task].columns)}
    if task == "stsb":
        assert train.labels.dtype == np.float32
        assert train.labels.mean() == pytest.approx(2.701, abs=5e-4)
        assert (train.labels.min(), train.labels.max()) == (0, 5)
    else:
        assert train.labels.dtype == np.int64
        assert sorted(set(train.labels.tolist())) == list(range(TASKS[task].outputs))
    if task in GLUE_SHARE_OF_CLASS_1:
        assert (dev.labels == 1).mean() == pytest.approx(GLUE_SHARE_OF_CLASS_1[task], abs=6e-4)


@pytest.mark.parametrize("extension", ["tsv", "csv", "jsonl", "parquet"])
def test_each_format_reads_the_same_rows(tmp_path: Path, extension: str) -> None:
    rows = [("Grün, gelb", "b", "yes"), ("c", 'd "e', "no"), ("f\u2028g", "h", "no")]
    path = tmp_path / f"train.{extension}"
    if extension == "tsv":
        file(tmp_path, path.name, "left\tright\tlabel\n" + "".join("\t".join(row) + "\n" for row in rows))
    elif extension == "csv":
        quoted = ('"' + '","'.join(field.replace('"', '""') for field in row) + '"\r\n' for row in rows)
        file(tmp_path, path.name, "left,right,label\r\n" + "".join(quoted))
    else:
        records = [dict(zip(("left", "right", "label"), row, strict=True)) for row in rows]
        if extension == "jsonl":
            file(tmp_path, path.name, "".join(json.dumps(record) + "\n" for record in records))
        else:
            parquet.write_table(arrow.Table.from_pylist(records), path)
    loaded = load_split(PAIR, path, "train")
    assert loaded.texts == [row[:2] for row in rows]
    assert loaded.labels.tolist() == [1, 0, 0]
    assert loaded.source == str(path)


def test_quotes_mean_nothing_in_tsv(tmp_path: Path) -> None:
    path = file(tmp_path, "train.tsv", 'text\tlabel\n"open\tyes\n"both"\tno\n')
    assert load_split(SINGLE, path, "train").texts == [('"open',), ('"both"',)]


def test_csv_fields_may_hold_line_ends(tmp_path: Path) -> None:
    path = file(tmp_path, "train.csv", 'text,label\n"two\nlines",yes\nbad,maybe\n')
    assert load_split(SINGLE, path, "train", max_rows=1).texts == [("two\nlines",)]
    assert "line 4: label 'maybe'" in refusal(path)


def test_byte_order_mark_windows_line_ends_and_more_columns(tmp_path: Path) -> None:
    path = file(tmp_path, "train.tsv", "\ufefftext\tsource\tlabel\r\na\tx\tyes\r\nb\t\tno\r\n\r\n")
    rows = load_split(SINGLE, path, "train")
    assert rows.texts == [("a",), ("b",)]
    assert rows.labels.tolist() == [1, 0]


def test_json_and_parquet_numbers_as_labels(tmp_path: Path) -> None:
    lines = '{"text": "a", "label": 1}\n{"label": 0, "text": "b"}\n'
    assert load_split(SINGLE, file(tmp_path, "train.jsonl", lines), "train").labels.tolist() == [1, 0]
    path = tmp_path / "train.parquet"
    parquet.write_table(arrow.table({"text": ["a", "b"], "label": [1.5, 2.0]}), path)
    rows = load_split(STARS, path, "train")
    assert rows.labels.dtype == np.float32
    assert rows.labels.tolist() == [1.5, 2.0]


def test_truth_values_as_labels(tmp_path: Path) -> None:
    spec = TaskSpec("own", ("text",), labels=("no", "yes"), label_values={"false": 0, "true": 1})
    path = file(tmp_path, "train.jsonl", '{"text": "a", "label": true}\n{"text": "b", "label": false}\n')
    assert load_split(spec, path, "train").labels.tolist() == [1, 0]


@pytest.mark.parametrize(
    ("task", "columns"),
    [
        ("cola", "sentence"),
        ("qqp", "question1\tquestion2"),
        ("mnli", "premise\thypothesis"),
        ("qnli", "question\tsentence"),
        ("rte", "sentence1\tsentence2"),
    ],
)
def test_columns_of_the_hub_are_accepted(tmp_path: Path, task: str, columns: str) -> None:
    texts = tuple(f"text {i}" for i in range(len(TASKS[task].columns)))
    path = file(tmp_path, "train.tsv", f"{columns}\tlabel\n" + "\t".join(texts) + "\t1\n")
    assert load_split(TASKS[task], path, "train").texts == [texts]


def test_max_rows_stops_before_a_broken_row(tmp_path: Path) -> None:
    for broken in ("c\tbroken\n", "c\n", "\t1\n"):
        path = file(tmp_path, "train.tsv", "text\tlabel\na\t1\nb\t0\n" + broken)
        assert len(load_split(SINGLE, path, "train", max_rows=2)) == 2
    with pytest.raises(ConfigurationError, match="max_rows is 0"):
        load_split(SINGLE, path, "train", max_rows=0)


@pytest.mark.parametrize(
    ("name", "content", "words"),
    [
        ("a.tsv", "", ["is empty"]),
        ("a.tsv", "\n\n", ["is empty"]),
        ("a.tsv", "text\tlabel\n", ["has no rows"]),
        ("a.csv", "text,label\n", ["has no rows"]),
        ("a.jsonl", "", ["is empty"]),
        ("a.tsv", "words\tlabel\na\t1\n", ["line 1", "text is missing", "there are words, label"]),
        ("a.csv", "text,class\na,1\n", ["line 1", "column label is missing", "there are text, class"]),
        ("a.jsonl", '{"words": "a"}\n', ["column text, label is missing", "there are words"]),
        ("a.jsonl", "{}\n", ["there are none"]),
        ("a.tsv", "text\ttext\tlabel\na\tb\t1\n", ["line 1", "column text stands there twice"]),
        ("a.tsv", "text\tlabel\na\t1\nb\tmaybe\n", ["line 3", "'maybe' is unknown", "0 (no), 1 (yes)"]),
        ("a.tsv", "text\tlabel\na\t1\nb\t2\n", ["line 3", "'2' is unknown"]),
        ("a.tsv", "text\tlabel\na\t-1\n", ["line 2", "'-1' is unknown"]),
        ("a.tsv", "text\tlabel\na\t1.5\n", ["line 2", "'1.5' is a float where a class is due"]),
        ("a.csv", "text,label\na,0.5\n", ["line 2", "'0.5' is a float where a class is due"]),
        ("a.jsonl", '{"text": "a", "label": 15e-1}\n', ["line 1", "'1.5' is a float where a class is due"]),
        ("a.csv", "text,label\na,2.0\n", ["line 2", "'2' is unknown"]),
        ("a.tsv", "text\tlabel\na\t01\n", ["line 2", "'01' is unknown"]),
        ("a.tsv", "text\tlabel\na\tYes\n", ["line 2", "'Yes' is unknown", "'yes' differs from it in spelling only"]),
        ("a.tsv", "text\tlabel\na\t\n", ["line 2", "the label is empty"]),
        ("a.jsonl", '{"text": "a", "label": null}\n', ["line 1", "the label is empty"]),
        ("a.tsv", "text\tlabel\n \t1\n", ["line 2", "a text is empty"]),
        ("a.jsonl", '{"text": "", "label": 1}\n', ["line 1", "a text is empty"]),
        ("a.jsonl", '{"text": 7, "label": 1}\n', ["line 1", "text expected, found 7"]),
        ("a.jsonl", '{"text": "\\ud800", "label": 1}\n', ["line 1", "not valid Unicode (lone surrogate)"]),
        ("a.tsv", "text\tlabel\na\t" + "b" * 999 + "\n", ["line 2", "label 'bbb", "bbb... is unknown"]),
        ("a.jsonl", '{"text": null, "label": 1}\n', ["line 1", "text expected, found None"]),
        ("a.tsv", "text\tlabel\na\t1\nb\n", ["line 3", "ragged row: 1 fields", "has 2 (text, label)"]),
        ("a.tsv", "text\tlabel\na\tb\t1\n", ["line 2", "ragged row: 3 fields"]),
        ("a.tsv", "text\tlabel\na\t1\n\nb\t0\n", ["line 3", "ragged row"]),
        ("a.csv", 'text,label\n"a, b",1\nc,d,0\n', ["line 3", "ragged row: 3 fields"]),
        ("a.csv", 'text,label\n"a" b,1\n', ["line 2", "not CSV"]),
        ("a.csv", 'text,label\n"a,1\nb,0\n', ["line 2", "not CSV"]),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": "b"}\n', ["line 2", "ragged row: keys text"]),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": \n', ["line 2", "not JSON"]),
        ("a.jsonl", '["a", 1]\n', ["line 1", "not a JSON object"]),
        ("a.jsonl", "[" * 100_000, ["line 1", "not JSON"]),
        ("a.tsv", b"text\tlabel\na\t1\nb\xff\t0\n", ["line 3", "byte 0xff is not UTF-8"]),
        ("a.csv", "text,label\ncaf\xe9,1\n".encode("latin-1"), ["line 2", "0xe9 is not UTF-8"]),
        ("a.jsonl", '{"text": "a", "label": 1}'.encode("utf-16"), ["line 1", "not UTF-8"]),
        ("a.parquet", b"not parquet", ["not a Parquet file"]),
        ("a.parquet", b"", ["not a Parquet file"]),
        ("a.txt", "text\tlabel\na\t1\n", ["no known extension", ".tsv, .csv, .jsonl, .parquet"]),
    ],
)  # fmt: skip
def test_broken_files_are_refused(tmp_path: Path, name: str, content: str | bytes, words: list[str]) -> None:
    message = refusal(file(tmp_path, name, content))
    assert all(word in message for word in words), message


@pytest.mark.parametrize("label", ["nan", "inf", "-inf", "1e39", "high", "1_0", "1,5", "0x1", "١"])
def test_regression_labels_have_to_be_finite_numbers(tmp_path: Path, label: str) -> None:
    path = file(tmp_path, "a.tsv", f"text\tlabel\na\t0.5\nb\t{label}\n")
    assert f"line 3: label {label!r} is not a finite number" in refusal(path, STARS)


def test_parquet_rows_are_counted_from_one(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    parquet.write_table(arrow.table({"text": ["a", "b", "c"], "label": [0, 1, 9]}), path)
    assert "row 3: label '9' is unknown" in refusal(path)


def test_parquet_text_that_is_not_utf8(tmp_path: Path) -> None:
    path = tmp_path / "train.parquet"
    broken = arrow.array([b"a", b"\xff"]).cast(arrow.binary()).view(arrow.string())
    parquet.write_table(arrow.table({"text": broken, "label": [0, 1]}), path)
    assert "row" in refusal(path)


@pytest.mark.parametrize("method", ["read_bytes", "iterdir", "is_file"])
def test_what_may_not_be_read_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, method: str) -> None:
    file(tmp_path, "train.tsv", "text\tlabel\na\t1\n")

    def refuse(path: Path) -> None:
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr(Path, method, refuse)
    with pytest.raises(DataError, match="cannot be read: Permission denied"):
        load_split(SINGLE, tmp_path, "train")


@given(
    st.lists(
        st.tuples(st.text(st.characters(codec="utf-8", exclude_characters="\t\n\r"), min_size=1), st.integers(0, 1)),
        min_size=1,
    )
)
def test_tsv_gives_back_what_was_written(tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[str, int]]) -> None:
    kept = [(text.strip() or "x", label) for text, label in rows]
    path = file(
        tmp_path_factory.mktemp("rows"),
        "train.tsv",
        "text\tlabel\n" + "".join(f"{text}\t{label}\n" for text, label in kept),
    )
    loaded = load_split(SINGLE, path, "train")
    assert [(text, int(label)) for (text,), label in zip(loaded.texts, loaded.labels, strict=True)] == kept


def test_a_choice_mixes_a_sorted_file_and_keeps_its_order():
    rows = Rows([(str(place),) for place in range(100)], np.repeat([0, 1], 50), "memory")
    some = chosen(rows, 40)
    places = [int(text) for (text,) in some.texts]
    assert places == sorted(places)
    assert (some.labels == (np.array(places) >= 50)).all()
    assert 10 < some.labels.sum() < 30
    assert chosen(rows, 100) is rows
    assert chosen(rows, None) is rows
