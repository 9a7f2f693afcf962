from concurrent.futures import ThreadPoolExecutor
from weakref import ref

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw

from propetl.runtime.engines.blocks import Distinct, Stack, arrays_in_block, block_bytes

SHAPES = {"a": ("float32", (1, 3, 5)), "b": ("uint8", (7,)), "none": ("float32", (0, 4)), "c": ("int64", (2, 2))}


def test_arrays_lie_in_one_block_and_do_not_overlap():
    arrays = arrays_in_block(SHAPES)
    for number, (name, array) in enumerate(arrays.items()):
        assert (str(array.dtype), array.shape) == SHAPES[name]
        array[...] = number
    for number, array in enumerate(arrays.values()):
        assert (array == number).all()
    starts = [array.__array_interface__["data"][0] for array in arrays.values()]
    assert all((start - starts[0]) % 64 == 0 for start in starts)
    assert max(starts) - starts[0] < block_bytes(SHAPES) == 64 + 64 + 0 + 64


def as_they_are(tensors):
    return dict(tensors)


def row_of(width, value):
    return Distinct(w=np.full((1, 2, width), value, np.float32), b=np.full((1, 3), value, np.float32))


@given(batches=draw.lists(draw.lists(draw.integers(0, 5), min_size=1, max_size=5), min_size=1, max_size=6))
def test_rows_one_after_the_other_narrow_ones_filled_with_zeros(batches):
    """Whatever the block held before, at the same places or at others."""
    rows = [row_of(1 + index // 2, index + 1) for index in range(6)]
    stack = Stack(as_they_are, as_they_are)
    for chosen in batches:
        widths = [1 + index // 2 for index in chosen]
        found = stack.stacked([rows[index] for index in chosen])
        assert found["w"].shape == (len(chosen), 2, max(widths)) and found["b"].shape == (len(chosen), 3)
        for place, (index, width) in enumerate(zip(chosen, widths, strict=True)):
            assert (found["w"][place, :, :width] == index + 1).all() and not found["w"][place, :, width:].any()
            assert (found["b"][place] == index + 1).all()


def test_what_the_block_holds_is_neither_copied_nor_prepared_again():
    rows = [row_of(2, value) for value in range(4)]
    prepared = []
    stack = Stack(as_they_are, lambda arrays: prepared.append(arrays) or dict(arrays))
    first = stack.stacked(rows[:3])
    rows[0]["w"][...] = 70  # not seen, as it is not read again
    assert stack.stacked(rows[:3]) is first and len(prepared) == 1
    again = stack.stacked([rows[0], rows[3], rows[2]])
    assert [row[0, 0] for row in again["w"]] == [0, 3, 2] and np.shares_memory(first["w"], again["w"])


def test_rows_are_told_apart_by_who_they_are_and_are_not_held():
    stack = Stack(as_they_are, as_they_are)
    stack.stacked([row := row_of(2, 1)])
    gone = ref(row)
    del row
    assert gone() is None
    assert (stack.stacked([row_of(2, 9)])["w"] == 9).all()


def test_after_a_row_that_cannot_be_read_the_block_is_put_together_anew():
    rows = [row_of(2, value) for value in (1, 2, 3)]

    def arrays_of(row):
        if row is rows[2]:
            raise RuntimeError("gone")
        return row

    stack = Stack(arrays_of, as_they_are)
    stack.stacked(rows[:2])
    with pytest.raises(RuntimeError):
        stack.stacked([rows[1], rows[2]])
    assert [row[0, 0] for row in stack.stacked(rows[:2])["w"]] == [1, 2]


def test_a_thread_uses_its_block_again_and_no_other_threads():
    stack = Stack(as_they_are, as_they_are)
    row = Distinct(w=np.ones((1, 1000), np.float32))
    first = stack.stacked([row, row])["w"]
    assert np.shares_memory(first, stack.stacked([row])["w"])
    with ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(first, pool.submit(stack.stacked, [row]).result()["w"])


def test_rows_of_different_axes_are_no_rows_of_one_thing():
    with pytest.raises(ValueError, match="zip"):
        Stack(as_they_are, as_they_are).stacked([Distinct(w=np.ones((1, 2))), Distinct(w=np.ones((1, 2, 2)))])
