import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from propetl.runtime.bench.messages import Cell, Vocabulary
from propetl.runtime.bench.tokens import feeds_of

ALL = ("input_ids", "attention_mask", "token_type_ids")
CELLS = st.builds(Cell, st.integers(1, 5), st.integers(1, 40))


@given(CELLS, st.integers(2, 300), st.data())
def test_real_tokens_all_over(cell, size, data):
    padding = data.draw(st.integers(0, size - 1))
    feeds = feeds_of(cell, Vocabulary(size, padding, ALL))
    assert tuple(feeds) == ALL
    assert all(tensor.shape == (cell.batch, cell.sequence) for tensor in feeds.values())
    assert all(tensor.dtype == np.int64 for tensor in feeds.values())
    ids = feeds["input_ids"]
    assert ids.min() >= 0 and ids.max() < size and not (ids == padding).any()
    assert (feeds["attention_mask"] == 1).all()


def test_every_other_id_occurs():
    feeds = feeds_of(Cell(10, 100), Vocabulary(5, 2, ALL))
    assert set(np.unique(feeds["input_ids"])) == {0, 1, 3, 4}


@given(CELLS)
def test_the_same_for_every_runtime(cell):
    vocabulary = Vocabulary(100, 0, ALL[:2])
    one, other = feeds_of(cell, vocabulary), feeds_of(cell, vocabulary)
    assert list(one) == ["input_ids", "attention_mask"]
    assert all((one[name] == other[name]).all() for name in one)
