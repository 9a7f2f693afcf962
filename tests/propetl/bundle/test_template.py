"""Columns that are joined to one text."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.bundle.template import joined, parts_of

COLUMNS = ("a", "b.c", "d")


@pytest.mark.parametrize(
    ("template", "text"),
    [
        ("{a}: {b.c} {d}", "1: 2 3"),
        ("{d}{b.c}{a}", "321"),
        ("{} | {} | {}", "1 | 2 | 3"),
        ("{{{a}}} {b.c}{d} {a}", "{1} 23 1"),
        ("{a}\n{b.c}\n{d}\n", "1\n2\n3\n"),
    ],
)
def test_texts_take_their_places(template: str, text: str) -> None:
    assert joined(template, COLUMNS, ("1", "2", "3")) == text


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{a} {b.c}", "leaves out column 'd'"),
        ("{a} {b.c} {e}", "has column 'e'; the columns are a, b.c, d"),
        ("{} {}", "leaves out column 'd'"),
        ("{} {} {} {}", "has more than 3 {}"),
        ("{} {b.c} {d}", "mixes"),
        ("{a} {b.c} {d} {", "single '{'"),
        ("a} {b.c} {d}", "single '}'"),
        ("", "leaves out column 'a'"),
    ],
)
def test_what_does_not_fit_is_refused(template: str, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        parts_of(template, COLUMNS)


@given(st.lists(st.text(), min_size=3, max_size=3))
def test_texts_are_taken_as_they_are(texts: list[str]) -> None:
    assert joined("<{a}|{b.c}|{d}>", COLUMNS, texts) == f"<{'|'.join(texts)}>"
