"""JSON from anybody: read as everybody reads it, or refused in one line, and never with another error."""

import ast
import json
import time
from contextlib import suppress
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

import propetl
from propetl.strict_json import DEEPEST, any_length, parse_json

numbers = st.integers(-(2**63), 2**64 - 1) | st.floats(allow_nan=False, allow_infinity=False)
texts = st.text(st.characters(exclude_categories=["Cs"]))
values = st.recursive(
    st.none() | st.booleans() | numbers | texts,
    lambda inner: st.lists(inner, max_size=4) | st.dictionaries(texts, inner, max_size=4),
    max_leaves=20,
)


@given(values, st.booleans(), st.sampled_from([None, 2]))
def test_json_is_read(value, as_ascii, indent):
    text = json.dumps(value, ensure_ascii=as_ascii, indent=indent)
    assert parse_json(text) == value
    assert parse_json(text.encode()) == value


nearly_json = st.text("[]{}:,\"\\ud8d0\0eE+-.NaInfity19 ", max_size=40)


@given(st.binary(max_size=40) | nearly_json.map(str.encode))
def test_nothing_but_a_value_error_of_one_line(content):
    said, value = "", None
    try:
        value = parse_json(content)
    except ValueError as error:
        said = str(error)
    assert "\n" not in said
    json.dumps(value, allow_nan=False, ensure_ascii=False).encode()  # nothing comes out that is not JSON


@pytest.mark.parametrize(
    ("content", "reason"),
    [
        (b'{"a": 1, "b": 2, "a": 1}', "key 'a' stands there twice"),
        (b"[NaN]", "NaN is no number in JSON"),
        (b"-Infinity", "-Infinity is no number in JSON"),
        (b"1e400", "number 1e400 is out of range"),
        (b"-1e999", "number -1e999 is out of range"),
        (b"1." + b"0" * 5000, "of 5002 characters is out of range"),
        (b"1" * 5000, "number 111111111111… of 5000 characters is out of range"),
        (str(2**64).encode(), "number 18446744073709551616 is out of range"),
        (b"[" * 100_000, f"more than {DEEPEST} lists and objects"),
        (b"[" * (DEEPEST + 1) + b"]" * (DEEPEST + 1), f"more than {DEEPEST} lists and objects"),
        (b'{"a":' * 900 + b"1" + b"}" * 900, f"more than {DEEPEST} lists and objects"),
        (b'"\\ud800"', "lone surrogate"),
        (b'{"\\udfff": 1}', "lone surrogate"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"a\0b"', "control character"),
        (b"\xef\xbb\xbf{}", "BOM"),
        (b'"\xff"', "not UTF-8"),
        (b"{} {}", "Extra data"),
        (b"", "Expecting value"),
    ],
)
def test_what_is_refused(content, reason):
    with pytest.raises(ValueError, match=reason):
        parse_json(content)


def test_what_is_at_the_limits():
    assert parse_json(b"[" * DEEPEST + b"]" * DEEPEST)
    assert parse_json(b"[" + b"[]," * 1000 + b"[]]")  # many beside each other are not deep
    assert parse_json(b'"\\ud83d\\ude00"') == "😀"
    assert parse_json(b"7" * 4300, whole=any_length) == int("7" * 4300)
    assert parse_json(b"[Infinity]", not_finite=True) == [float("inf")]


@pytest.mark.parametrize("make", [lambda n: b'{"k":' + b"9" * n + b"}", lambda n: b"[" + b"{}," * n + b"1]"])
def test_time_is_in_the_length(make):
    start = time.perf_counter()
    for content in (make(10**6), b"{" + b",".join(b'"%d":1' % n for n in range(10**5)) + b',"0":1}'):
        with suppress(ValueError):
            parse_json(content)
    assert time.perf_counter() - start < 20  # in the square it would be hours


BENCH = ("messages", "processes", "first_answer")
OWN = {*(f"runtime/bench/{name}.py" for name in BENCH), "export/eager.py", "training/inputs.py"}
"""Reads what this process, or one that it started, has just written."""


def test_no_other_code_reads_json():
    """One reader for all files, so that all of them refuse alike."""
    root = Path(propetl.__file__).parent
    found = {
        path.relative_to(root).as_posix()
        for path in root.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Attribute) and node.attr in ("load", "loads") and ast.unparse(node.value) == "json"
    }
    assert found - OWN == {"strict_json.py"}
