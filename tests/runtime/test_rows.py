import numpy as np
import pytest

from propetl.errors import ConfigurationError, TaskError
from propetl.runtime.rows import check_text, check_texts, token_feeds
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
        check_texts("t", SINGLE, ["a", "b", ""])


@pytest.mark.parametrize(
    ("texts", "message"),
    [([], "no rows were given"), ("good", "expected a list of texts, found str"), (None, "found NoneType")],
)
def test_no_rows_and_one_bare_text(texts, message):
    with pytest.raises(ConfigurationError, match=message):
        check_texts("t", SINGLE, texts)


def arrays(**changes):
    ids = np.array([[2, 5, 3], [2, 3, 0]])
    return {"input_ids": ids, "attention_mask": (ids > 0).astype(np.int32)} | changes


def test_token_ids_become_int64_and_types_default_to_zero():
    feeds = token_feeds(arrays(), INPUTS)
    assert list(feeds) == list(INPUTS)
    assert all(tensor.dtype == np.int64 and tensor.flags.c_contiguous for tensor in feeds.values())
    assert not feeds["token_type_ids"].any()
    assert list(token_feeds(arrays(), INPUTS[:2])) == list(INPUTS[:2])


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
        (arrays(input_ids=np.full((2, 3), -1)), "input_ids has -1; ids are not negative"),
        (arrays(attention_mask=np.array([[1, 1, 1], [0, 0, 0]])), "row 1 has no token with attention_mask 1"),
        ({}, "found none"),
    ],
)
def test_token_ids_that_cannot_be_used(given, message):
    with pytest.raises(ConfigurationError, match=message):
        token_feeds(given, INPUTS)


def test_types_for_a_model_that_has_none():
    with pytest.raises(ConfigurationError, match="takes input_ids, attention_mask; found"):
        token_feeds(arrays(token_type_ids=np.zeros((2, 3), int)), INPUTS[:2])
