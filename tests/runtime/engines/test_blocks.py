from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as draw

from propetl.runtime.engines.blocks import Stack, arrays_in_block, block_bytes

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


@given(
    rows=draw.lists(draw.integers(1, 4), min_size=1, max_size=5),
    before=draw.lists(draw.integers(1, 4), min_size=1, max_size=5),
)
def test_rows_one_after_the_other_narrow_ones_filled_with_zeros(rows, before):
    """Also in a block that held other rows before."""
    stack = Stack()
    for widths in (before, rows):
        made = [
            {"w": np.full((1, 2, width), width, np.float32), "b": np.full((1, 3), width, np.float32)}
            for width in widths
        ]
        found = stack.stacked(made)
        assert found["w"].shape == (len(widths), 2, max(widths)) and found["b"].shape == (len(widths), 3)
        for row, width in enumerate(widths):
            assert (found["w"][row, :, :width] == width).all() and not found["w"][row, :, width:].any()
            assert (found["b"][row] == width).all()


def test_a_thread_uses_its_block_again_and_no_other_threads():
    stack = Stack()
    row = {"w": np.ones((1, 1000), np.float32)}
    first = stack.stacked([row, row])["w"]
    assert np.shares_memory(first, stack.stacked([row])["w"])
    with ThreadPoolExecutor(1) as pool:
        assert not np.shares_memory(first, pool.submit(stack.stacked, [row]).result()["w"])


def test_rows_of_different_axes_are_no_rows_of_one_thing():
    with pytest.raises(ValueError, match="zip"):
        Stack().stacked([{"w": np.ones((1, 2))}, {"w": np.ones((1, 2, 2))}])
