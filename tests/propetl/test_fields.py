"""Fields of files that nobody vouches for: of their kind and range, or a ValueError that names the key."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl import fields

anything = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)
READERS = [
    fields.whole,
    fields.number,
    fields.flag,
    fields.text,
    fields.texts,
    fields.items,
    fields.entries,
    lambda value, key: fields.record(value, key, ("a",), ("b",)),
    lambda value, key: fields.one_of(("a", "b"), value, key),
    lambda value, key: fields.each(fields.whole, value, key),
    lambda value, key: fields.optional(fields.texts, value, key),
]


@pytest.mark.parametrize("read", READERS)
@given(value=anything)
def test_a_value_or_a_value_error_with_the_key(read, value):
    said = None
    try:
        read(value, "some.key")
    except ValueError as error:
        said = str(error)
    assert said is None or (said.startswith("some.key") and len(said) < 300 and "\n" not in said)


def test_a_key_with_a_line_end_is_one_line():
    with pytest.raises(ValueError, match=r"^n\.'a\\nb' is None, expected a whole number"):
        fields.each(fields.whole, {"a\nb": None}, "n")


@pytest.mark.parametrize("value", [True, 1.0, -1, 2**31, 10**400, "1", None])
def test_no_whole_number(value):
    with pytest.raises(ValueError, match=r"^n is .*, expected a whole number of at least 0"):
        fields.whole(value, "n")


@pytest.mark.parametrize("value", [True, float("nan"), float("inf"), 10**400, "1", None])
def test_no_number(value):
    with pytest.raises(ValueError, match="expected a finite number"):
        fields.number(value, "x")


def test_ranges():
    assert fields.whole(2**31 - 1, "n") == 2**31 - 1
    assert fields.whole(2**40, "n", largest=fields.MOST_BYTES) == 2**40
    with pytest.raises(ValueError, match=r"at least 1$"):
        fields.whole(0, "n", 1)
    assert type(fields.number(3, "x")) is int


def test_records():
    assert fields.record({"a": 1}, "r", ("a",), ("b",)) == {"a": 1}
    with pytest.raises(ValueError, match="r has no key 'a'"):
        fields.record({}, "r", ("a",))
    with pytest.raises(ValueError, match="r has an unknown key 'c'"):
        fields.record({"a": 1, "c": 2}, "r", ("a",), ("b",))
