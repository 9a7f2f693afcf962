"""How tasks are asked and answered in text."""

import json
from dataclasses import asdict

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.bundle.text import NO_CLASS, NO_VALUE, TextInfo, text_info

WORDS = TextInfo("rte sentence1: {} sentence2: {}", words=("0", "1"))
VALUES = TextInfo("{}", step=0.2)
TEXTS = TextInfo("summarize: {}.")


def test_the_prompt_takes_the_columns_in_turn():
    assert WORDS.source(("a {} b", "c")) == "rte sentence1: a {} b sentence2: c"
    assert TEXTS.source(("x",)) == "summarize: x."


@pytest.mark.parametrize(
    ("value", "text"), [(0.0, "0.0"), (5.0, "5.0"), (3.25, "3.2"), (2.889, "2.8"), (0.09, "0.0"), (-0.01, "0.0")]
)
def test_values_are_rounded_as_stsb_is(value, text):
    assert VALUES.target(value) == text


@given(st.floats(0, 5))
def test_a_value_comes_back_within_half_a_step(value):
    answer = VALUES.answer(VALUES.target(value))
    assert isinstance(answer, float) and abs(answer - value) <= 0.1 + 1e-9


def test_steps_of_other_sizes():
    assert TextInfo("{}", step=0.25).target(0.6) == "0.50"
    assert TextInfo("{}", step=10).target(97) == "100.0"


def test_classes_and_texts():
    assert [WORDS.target(label) for label in (0, 1)] == ["0", "1"]
    assert [WORDS.answer(text) for text in ("0", " 1 ", "2", "")] == [0, 1, NO_CLASS, NO_CLASS]
    assert TEXTS.answer(TEXTS.target(" a b ")) == "a b"


@pytest.mark.parametrize("text", ["", "abc", "1.2.3", "nan", "inf", "1e400", "١"])
def test_what_is_no_value(text):
    assert VALUES.answer(text) == NO_VALUE


@pytest.mark.parametrize("info", [WORDS, VALUES, TextInfo("{}", num_beams=4, length_penalty=0.6)])
def test_it_comes_back_from_json(info):
    assert text_info(json.loads(json.dumps(asdict(info)))) == info


@pytest.mark.parametrize(
    "changes",
    [
        {"prompt": 3},
        {"words": [1, 2]},
        {"words": ["a", "a"]},
        {"words": ["a", " "]},
        {"words": ["a", "b"], "step": 0.2},
        {"step": 0},
        {"step": True},
        {"max_target_length": 0},
        {"max_target_length": 1.5},
        {"num_beams": True},
        {"length_penalty": "x"},
        {"colour": 1},
    ],
)
def test_what_is_refused(changes):
    with pytest.raises((TypeError, ValueError)):
        text_info(asdict(TEXTS) | changes)
