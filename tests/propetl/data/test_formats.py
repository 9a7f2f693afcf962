"""Files as Excel, pandas, R and others write them: right, or one line with file and row."""

import csv
import json
from decimal import Decimal
from pathlib import Path
from typing import Any

import pandas
import pyarrow as arrow
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from pyarrow import parquet

from propetl.data.tables import load_split
from propetl.errors import DataError
from propetl.task import TaskSpec

SPEC = TaskSpec("own", ("text",), labels=("no", "yes"))
STARS = TaskSpec("stars", ("text",), problem="regression", metrics=("pearson",))


def rows(folder: Path, name: str, content: str | bytes, spec: TaskSpec = SPEC) -> list[tuple[Any, ...]]:
    path = folder / name
    path.write_bytes(content if isinstance(content, bytes) else content.encode())
    loaded = load_split(spec, path, "train")
    return [(*texts, label) for texts, label in zip(loaded.texts, loaded.labels.tolist(), strict=True)]


LONG = "word " * 60_000


@pytest.mark.parametrize(
    ("name", "content", "found"),
    [
        ("a.csv", f'text,label\r\n"{LONG}",yes\r\nb,no\r\n', [(LONG, 1), ("b", 0)]),
        ("a.csv", "text;label\r\na, b;yes\r\nc;no\r\n", [("a, b", 1), ("c", 0)]),
        ("a.csv", "\ufefftext;label\r\na;1\r\n", [("a", 1)]),
        ("a.csv", "sep=;\r\ntext;label\r\na;yes\r\n", [("a", 1)]),
        ("a.csv", "\ufeffsep=|\ntext|label\na;b,c|yes\n", [("a;b,c", 1)]),
        ("a.csv", "text\tlabel\na,b\tyes\n", [("a,b", 1)]),
        ("a.csv", 'id,"a;b",text,label\n1,2,"x\ty",yes\n', [("x\ty", 1)]),
        ("a.csv", "text,label,\na,yes,\n", [("a", 1)]),
        ("a.csv", "text;label;;;\na;yes;;;\n", [("a", 1)]),
        ("a.csv", ",text,label\n0,a,yes\n1,b,no\n", [("a", 1), ("b", 0)]),
        ("a.csv", 'text,label\r"a\rb",yes\rc,no\r', [("a\rb", 1), ("c", 0)]),
        ("a.csv", 'text,label\n"say ""hi""",yes\n5" pipe,no\n', [('say "hi"', 1), ('5" pipe', 0)]),
        ("a.csv", "text,label\na\u2028b\x0cc\x85d,yes\n", [("a\u2028b\x0cc\x85d", 1)]),
        ("a.csv", "text,label\na\0b,yes\n", [("a\0b", 1)]),
        ("a.csv", '"","text","label"\n"1","a","yes"\n"2","b ""q""","no"\n', [("a", 1), ('b "q"', 0)]),
        ("a.tsv", '"text"\t"label"\n"a\tb ""c"""\t"yes"\n', [('a\tb "c"', 1)]),
        ("a.tsv", "text\tlabel\ra\tyes\rb\tno\r", [("a", 1), ("b", 0)]),
        ("a.jsonl", '{"text": "a", "label": "yes"}\r{"text": "b", "label": "no"}\r', [("a", 1), ("b", 0)]),
        ("a.jsonl", json.dumps({"text": LONG, "label": 1}), [(LONG, 1)]),
        ("a.jsonl", '{"id": ' + "9" * 5000 + ', "text": "a", "label": 1}', [("a", 1)]),
        ("a.jsonl", '{"id": -1e999, "text": "a", "label": 1}', [("a", 1)]),
    ],
)  # fmt: skip
def test_right(tmp_path: Path, name: str, content: str, found: list[tuple[Any, ...]]) -> None:
    assert rows(tmp_path, name, content) == found


@pytest.mark.parametrize(
    ("name", "content", "parts"),
    [
        ("a.csv", "text,label,x;text;label\na,yes,b;c;no\n", ["line 1", "',' and ';' both give", "delimiter"]),
        ("a.csv", 'text,label\na,yes\n"b,no\nc,yes\n', ["line 3", "not CSV", "quotation mark"]),
        ("a.csv", 'text,label\n"two\nlines",yes\n"b" c,no\n', ["line 4", "not CSV"]),
        ("a.csv", 'text,label\n"two\r\nlines",yes\r\n"a\rb",yes\r\nbad\r\n', ["line 6", "ragged row: 1 fields"]),
        ("a.csv", "text,label\na,yes,\n", ["line 2", "ragged row: 3 fields"]),
        ("a.csv", "text;label\na;yes\nb,no\n", ["line 3", "ragged row: 1 fields"]),
        ("a.csv", "good film,1\nbad film,0\n", ["line 1", "column text, label is missing", "there are good film, 1"]),
        ("a.csv", 'te,label,"x\n' + "y" * 9000 + '"\na,1,b\n', ["line 1", "column text is missing", "'x\\ny"]),
        ("a.csv", "label," + ",".join(f"column{n}" for n in range(900)), ["line 1", "… (901 in all)"]),
        ("a.csv", "Text,label\na,1\n", ["line 1", "column text is missing", "did you mean 'Text'"]),
        ("a.csv", "text;label\na;yes\n;\n", ["line 3", "a text is empty"]),
        ("a.csv", "text,label\na,\n", ["line 2", "the label is empty"]),
        ("a.tsv", "text\tlabel\na\tyes\n".encode("utf-16"), ["line 1", "the file is UTF-16, not UTF-8", "CSV UTF-8"]),
        ("a.csv", "text,label\na,yes\n".encode("utf-32"), ["line 1", "the file is UTF-32, not UTF-8"]),
        ("a.csv", "text,label\na,yes\n".encode("utf-16-le"), ["line 1", "column text, label is missing"]),
        ("a.jsonl", '{"text": "a", "text": "b", "label": 1}', ["line 1", "key 'text' stands there twice"]),
        ("a.jsonl", '{"text": "a", "label": 1, "x": {"y": 1, "y": 2}}', ["line 1", "key 'y' stands there twice"]),
        ("a.jsonl", '{"text": "a", "label": NaN}', ["line 1", "NaN is no number in JSON"]),
        ("a.jsonl", '{"text": "a", "label": 1, "x": -Infinity}', ["line 1", "-Infinity is no number in JSON"]),
        ("a.jsonl", '{"text": "a", "label": ' + "9" * 5000 + "}", ["line 1", "label '999", "is unknown"]),
        ("a.jsonl", '{"text": ' + "9" * 5000 + ', "label": 1}', ["line 1", "text expected, found Decimal("]),
        ("a.jsonl", '{"text": "a", "label": 1}\n{"text": ' + "[" * 5000, ["line 2", "not JSON"]),
        ("a.jsonl", '{"text": "a", "label": "\\ud800"}', ["line 1", "not valid Unicode (lone surrogate)"]),
    ],
)  # fmt: skip
def test_one_line(tmp_path: Path, name: str, content: str | bytes, parts: list[str]) -> None:
    with pytest.raises(DataError) as error:
        rows(tmp_path, name, content)
    message = str(error.value)
    assert "\n" not in message
    assert len(message) < 500
    assert all(part in message for part in [name, *parts]), message


@pytest.mark.parametrize("label", ["1e400", "-1e400", "9" * 5000, "1" * 40 + "e", "NaN", "1,5", "0x10"])
@pytest.mark.parametrize("name", ["a.csv", "a.tsv", "a.jsonl"])
def test_values_that_are_no_finite_numbers(tmp_path: Path, name: str, label: str) -> None:
    content = {
        "a.csv": f'text,label\na,"{label}"\n',
        "a.tsv": f"text\tlabel\na\t{label}\n",
        "a.jsonl": f'{{"text": "a", "label": {label}}}\n',
    }[name]
    with pytest.raises(DataError, match=f"{name}, line . ?"):
        rows(tmp_path, name, content, STARS)


def test_the_tasks_delimiter_wins(tmp_path: Path) -> None:
    spec = TaskSpec("own", ("text",), labels=("no", "yes"), delimiter="~")
    assert rows(tmp_path, "a.csv", 'text~label\n"a~b"~yes\n', spec) == [("a~b", 1)]
    assert rows(tmp_path, "a.tsv", 'text~label\n"a~b"~yes\n', spec) == [("a~b", 1)]
    with pytest.raises(DataError, match=r"line 1: the file says sep=;, and the task's delimiter is '~'"):
        rows(tmp_path, "a.csv", "sep=;\ntext;label\na;yes\n", spec)


def test_columns_that_are_not_needed_are_not_read(tmp_path: Path) -> None:
    beyond = arrow.array([2**58], arrow.timestamp("ms"))  # no date of Python's
    path = tmp_path / "a.parquet"
    parquet.write_table(arrow.table({"x": beyond, "text": ["a"], "label": [1]}), path)
    assert load_split(SPEC, path, "train").texts == [("a",)]
    parquet.write_table(arrow.table({"text": ["a"], "label": beyond}), path)
    with pytest.raises(DataError, match=r"a.parquet, row 1: cannot be read"):
        load_split(SPEC, path, "train")


def test_parquet_kinds(tmp_path: Path) -> None:
    path = tmp_path / "a.parquet"
    texts, labels = pandas.Categorical(["a", "b", "a"]), [Decimal("1.50"), Decimal(2), Decimal(3)]
    pandas.DataFrame({"text": texts, "label": labels}).to_parquet(path)
    loaded = load_split(STARS, path, "train")
    assert loaded.texts == [("a",), ("b",), ("a",)]
    assert loaded.labels.tolist() == [1.5, 2.0, 3.0]
    for text in (b"a", 7, pandas.Timestamp("2020-01-01"), None):
        pandas.DataFrame({"text": ["x", text], "label": [1, 2]}, dtype=object).iloc[1:].to_parquet(path)
        with pytest.raises(DataError, match=r"a.parquet, row 1: text expected"):
            load_split(STARS, path, "train")


class TestInsideObjects:
    SPEC = TaskSpec("own", ("ticket.subject",), label_column="meta.label", labels=("no", "yes"))

    @pytest.mark.parametrize(
        "row",
        [
            {"ticket": {"subject": "a"}, "meta": {"label": 1}},
            {"ticket.subject": "a", "meta": {"label": 1}},
            {"ticket.subject": "a", "ticket": {"other": 1}, "meta": {"label": "yes"}},
            {"ticket": {"subject": "a"}, "meta.label": "yes", "meta": None},
        ],
    )
    def test_the_field_is_found(self, tmp_path: Path, row: dict[str, Any]) -> None:
        assert rows(tmp_path, "a.jsonl", json.dumps(row), self.SPEC) == [("a", 1)]
        pandas.DataFrame([row]).to_parquet(tmp_path / "a.parquet")
        assert load_split(self.SPEC, tmp_path / "a.parquet", "train").texts == [("a",)]

    @pytest.mark.parametrize(
        ("row", "part"),
        [
            (
                {"ticket.subject": "b", "ticket": {"subject": "a"}, "meta": {"label": 1}},
                "stands there twice, as 'ticket",
            ),
            ({"ticket": {"body": "a"}, "meta": {"label": 1}}, "column ticket.subject is missing: ticket is {'body'"),
            ({"ticket": "a", "meta": {"label": 1}}, "column ticket.subject is missing: ticket is 'a'"),
            ({"tickets": {"subject": "a"}, "meta": {"label": 1}}, "column ticket.subject is missing: task own"),
            ({"ticket": {"subject": {"x": 1}}, "meta": {"label": 1}}, "text expected, found {'x': 1}"),
        ],
    )
    def test_else_the_line_is_named(self, tmp_path: Path, row: dict[str, Any], part: str) -> None:
        with pytest.raises(DataError) as error:
            rows(tmp_path, "a.jsonl", json.dumps(row), self.SPEC)
        assert "a.jsonl, line 1: " in str(error.value)
        assert part in str(error.value)


TEXTS = st.text(st.characters(codec="utf-8", exclude_characters="\ufeff"), min_size=1).filter(str.strip)


@settings(max_examples=150, deadline=None)
@given(
    texts=st.lists(TEXTS, min_size=1, max_size=4), delimiter=st.sampled_from(",;\t|"), quoting=st.sampled_from([0, 1])
)
def test_what_csv_writes_is_read(
    tmp_path_factory: pytest.TempPathFactory, texts: list[str], delimiter: str, quoting: int
) -> None:
    path = tmp_path_factory.mktemp("rows") / "train.csv"
    with path.open("w", newline="", encoding="utf-8") as out:
        csv.writer(out, delimiter=delimiter, quoting=quoting).writerows(
            [["text", "label"], *([t, "yes"] for t in texts)]
        )
    assert [text for (text,) in load_split(SPEC, path, "train").texts] == texts


@settings(max_examples=100, deadline=None)
@given(content=st.text(st.sampled_from('ab,;\t"\r\n|')), delimiter=st.sampled_from([None, ",", ";"]))
def test_any_text_is_read_or_refused_in_one_line(
    tmp_path_factory: pytest.TempPathFactory, content: str, delimiter: str | None
) -> None:
    path = tmp_path_factory.mktemp("rows") / "train.csv"
    path.write_text(f"text,label\n{content}", newline="")
    spec = TaskSpec("own", ("text",), labels=("a", "b"), delimiter=delimiter)
    try:
        load_split(spec, path, "train")
        refusal = str(path)
    except DataError as error:
        refusal = str(error)
    assert "\n" not in refusal
    assert str(path) in refusal
