"""Masks as bits."""

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra.numpy import array_shapes, arrays

from propetl.bits import count_ones, jaccard, pack, packed_length, padding_is_zero, unpack, unpacking_table

masks = arrays(bool, array_shapes(min_dims=1, max_dims=3, max_side=40))


def test_the_byte_order_is_little():
    mask = np.array([1, 0, 0, 0, 0, 0, 0, 1, 0, 1, 1], dtype=bool)
    assert pack(mask).tobytes() == bytes([0b1000_0001, 0b0000_0110])


@pytest.mark.parametrize("index", range(16))
def test_entry_i_is_bit_i_mod_8_of_byte_i_div_8(index):
    mask = np.arange(16) == index
    expected = [0, 0]
    expected[index // 8] = 1 << (index % 8)
    assert pack(mask).tolist() == expected


@given(masks)
def test_packing_and_back(mask):
    packed = pack(mask)
    assert packed.dtype == np.uint8 and packed.shape == (*mask.shape[:-1], packed_length(mask.shape[-1]))
    assert np.array_equal(unpack(packed, mask.shape[-1]), mask)
    assert unpack(packed, mask.shape[-1]).dtype == bool


@given(masks)
def test_counting_ones(mask):
    assert np.array_equal(count_ones(pack(mask)), mask.sum(axis=-1))


@given(masks)
def test_packing_leaves_unused_bits_zero(mask):
    assert padding_is_zero(pack(mask), mask.shape[-1])


@given(st.integers(1, 100), st.data())
def test_any_stray_bit_is_seen(count, data):
    packed = pack(np.ones((2, count), dtype=bool))
    spare = packed_length(count) * 8 - count
    if spare == 0:
        assert padding_is_zero(packed, count)
        return
    packed[data.draw(st.integers(0, 1)), -1] |= 1 << data.draw(st.integers(8 - spare, 7))
    assert not padding_is_zero(packed, count)


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(arrays(bool, (2, n)), arrays(bool, (2, n)))))
def test_jaccard_is_the_overlap_of_sets(pair):
    left, right = pair
    ones = [set(zip(*np.nonzero(mask), strict=True)) for mask in pair]
    expected = len(ones[0] & ones[1]) / len(ones[0] | ones[1]) if ones[0] | ones[1] else 1.0
    assert jaccard(pack(left), pack(right)) == expected


def test_jaccard_of_known_masks():
    assert jaccard(pack(np.array([1, 1, 1, 0], bool)), pack(np.array([0, 1, 1, 1], bool))) == 0.5
    assert jaccard(pack(np.array([1, 0], bool)), pack(np.array([0, 1], bool))) == 0.0
    assert jaccard(np.zeros(3, np.uint8), np.zeros(3, np.uint8)) == 1.0


@given(arrays(np.uint8, (3, 5)))
def test_the_table_unpacks_as_unpack_does(packed):
    looked_up = unpacking_table()[packed].reshape(3, 40)
    assert looked_up.dtype == np.float32
    assert np.array_equal(looked_up, unpack(packed, 40))
