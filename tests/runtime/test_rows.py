from typing import Any

import numpy as np
import pandas
import pytest

from propetl.errors import ConfigurationError, TaskError
from propetl.runtime.rows import check_text, checked_texts, tasks_and_texts, token_feeds
from tests.runtime.tiny_artifact import TASKS
from tests.runtime.tiny_tokenizer import INPUTS

SINGLE, PAIR = TASKS["mood"], TASKS["entails"]


@pytest.mark.parametrize(
    ("info", "text"), [(SINGLE, "good"), (SINGLE, ("good",)), (PAIR, ("a", "b")), (PAIR, ["a", "b"])]
)
def test_rows_that_fit_pass(info, text):
    check_text("t", info, text, "row 0")


@pytest.mark.parametrize(
    ("info", "text", "error", "message"),
    [
        (SINGLE, ("a", "b"), TaskError, r"row 7: task 't' takes one text \(text\), found 2"),
        (PAIR, "a", TaskError, r"row 7: task 't' takes a pair of texts \(premise, hypothesis\), found 1"),
        (PAIR, ("a", "b", "c"), TaskError, "found 3"),
        (PAIR, (), TaskError, "found 0"),
        (SINGLE, "", ConfigurationError, "row 7: text is blank"),
        (SINGLE, " \t\n\u3000", ConfigurationError, "row 7: text is blank"),
        (PAIR, ("a", " "), ConfigurationError, "row 7: hypothesis is blank"),
        (SINGLE, None, ConfigurationError, "row 7: expected a text or a pair of texts, found NoneType"),
        (SINGLE, 3, ConfigurationError, "found int '3'"),
        (PAIR, ("a", 3), ConfigurationError, "expected a text or a pair"),
        (SINGLE, b"bytes", ConfigurationError, "found bytes"),
        (SINGLE, "a\ud800b", ConfigurationError, "text is not valid Unicode"),
    ],
)
def test_rows_that_do_not_fit_are_refused(info, text, error, message):
    with pytest.raises(error, match=message):
        check_text("t", info, text, "row 7")


def test_the_row_is_named():
    with pytest.raises(ConfigurationError, match=r"^row 2: text is blank"):
        checked_texts("t", SINGLE, ["a", "b", ""])


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "no rows were given"), ("good", "expected a list of texts, found str"), (None, "found NoneType")],
)
def test_no_rows_and_one_bare_text(texts, message):
    with pytest.raises(ConfigurationError, match=message):
        checked_texts("t", SINGLE, texts)


class Table:
    """As pandas gives one: it iterates over the names of its columns."""

    columns = ("text", "label")

    def __iter__(self):
        return iter(self.columns)


@pytest.mark.parametrize(
    "texts",
    [b"good", bytearray(b"good"), {"good", "bad"}, frozenset({"a"}), {"text": "a"}, Table(), np.array("good"), 3],
    ids=lambda texts: type(texts).__name__,
)
def test_what_gives_no_rows_in_order(texts):
    with pytest.raises(ConfigurationError, match=r"^task 't': expected a list of texts, found "):
        checked_texts("t", SINGLE, texts)
    with pytest.raises(ConfigurationError, match=r"^expected a list of rows \(task, text\), found "):
        tasks_and_texts(texts)


@pytest.mark.parametrize(
    "texts",
    [
        ["a", "b"],
        ("a", "b"),
        np.array(["a", "b"]),
        np.array(["a", "b"], dtype=object),
        (text for text in "ab"),
        pandas.Series(["a", "b"], index=[7, 3]),
        pandas.Series(["a", "b"], dtype="string"),
        pandas.Series(["a", "b"], dtype="category"),
        pandas.Index(["a", "b"]),
    ],
    ids=lambda texts: type(texts).__name__,
)
def test_rows_of_any_kind_that_has_an_order(texts):
    found = checked_texts("t", SINGLE, texts)
    assert found == ["a", "b"] and {type(text) for text in found} == {str}


@pytest.mark.parametrize(
    "pairs", [np.array([["a", "b"], ["c", "d"]]), [["a", "b"], ("c", "d")], zip("ac", "bd", strict=True)]
)
def test_pairs_of_any_kind(pairs):
    assert checked_texts("t", PAIR, pairs) == [("a", "b"), ("c", "d")]


@pytest.mark.parametrize("gap", [None, float("nan"), pandas.NA, b"a", 3, np.bytes_(b"a")])
def test_a_row_that_is_missing_is_named(gap):
    with pytest.raises(ConfigurationError, match=r"^row 1: expected a text"):
        checked_texts("t", SINGLE, pandas.Series(["a", gap, "b"], dtype=object))


@pytest.mark.parametrize("row", ["mood", ("mood",), ("mood", "a", "b"), (3, "a"), None, {"mood": "a", "topic": "b"}])
def test_a_row_that_is_no_task_and_text_is_named(row):
    with pytest.raises(ConfigurationError, match=r"^row 1: expected \(task, text\), found "):
        tasks_and_texts([("mood", "a"), row])


def test_tasks_and_texts_of_any_kind():
    assert tasks_and_texts(np.array([["mood", "a"]])) == [("mood", "a")]
    as_json: Any = [["mood", ["a", "b"]]]
    assert tasks_and_texts(as_json) == [("mood", ("a", "b"))]


def arrays(**changes):
    ids = np.array([[2, 5, 3], [2, 3, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int32)} | changes


def test_token_ids_become_int64_and_types_default_to_zero():
    feeds = token_feeds(arrays(), INPUTS)
    assert list(feeds) == list(INPUTS)
    assert all(tensor.dtype == np.int64 and tensor.flags.c_contiguous for tensor in feeds.values())
    assert not feeds["token_type_ids"].any()
    assert list(token_feeds(arrays(), INPUTS[:2])) == list(INPUTS[:2])


def test_a_boolean_mask_will_do():
    given = arrays()
    feeds = token_feeds(given | {"attention_mask": given["attention_mask"].astype(bool)}, INPUTS)
    np.testing.assert_array_equal(feeds["attention_mask"], given["attention_mask"])


def test_lists_will_do():
    feeds = token_feeds({"input_ids": [[1, 2]], "attention_mask": [[1, 1]]}, INPUTS[:2])  # type: ignore[dict-item]
    np.testing.assert_array_equal(feeds["input_ids"], [[1, 2]])


@pytest.mark.parametrize(
    ("given", "message"),
    [
        (
            {"input_ids": np.ones((1, 2), int)},
            "takes input_ids, attention_mask, token_type_ids; found input_ids",
        ),
        (arrays(labels=np.ones((2, 3), int)), "found attention_mask, input_ids, labels"),
        (arrays(attention_mask=np.ones((2, 2), int)), r"attention_mask is \[2, 2\], input_ids is \[2, 3\]"),
        (arrays(input_ids=np.ones(3, int)), r"input_ids is \[3\], expected \[rows, sequence\]"),
        (arrays(input_ids=np.ones((0, 3), int)), r"input_ids is \[0, 3\], expected"),
        (arrays(input_ids=np.ones((2, 0), int)), r"input_ids is \[2, 0\], expected"),
        (arrays(input_ids=np.ones((2, 3))), "input_ids is float64, expected integers"),
        (arrays(input_ids=np.full((2, 3), -1)), "input_ids has -1; its numbers are from 0 to 2147483647"),
        (arrays(attention_mask=np.full((2, 3), 2)), "attention_mask has 2; its numbers are from 0 to 1"),
        (arrays(input_ids=np.full((2, 3), 1 << 63, dtype=np.uint64)), "input_ids has 9223372036854775808"),
        (arrays(input_ids=np.ones((2, 3), bool)), "input_ids is bool, expected integers"),
        (arrays(attention_mask=np.array([[1, 1, 1], [0, 0, 0]])), "row 1 has no token with attention_mask 1"),
        ({}, "found none"),
        ({3: np.ones((2, 3), int)}, "found 3"),
        (arrays(input_ids=[[1, 2], [1]]), "input_ids has rows of several lengths"),
    ],
)
def test_token_ids_that_cannot_be_used(given, message):
    with pytest.raises(ConfigurationError, match=message):
        token_feeds(given, INPUTS)


def test_types_for_a_model_that_has_none():
    with pytest.raises(ConfigurationError, match="takes input_ids, attention_mask; found"):
        token_feeds(arrays(token_type_ids=np.zeros((2, 3), int)), INPUTS[:2])
