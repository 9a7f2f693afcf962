import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.runtime.batching import batches_of_feeds, batches_of_token_rows
from propetl.runtime.tokenise import Tokeniser, TokenRow
from tests.runtime.tiny_tokenizer import INPUTS, tokenizer_json


@pytest.fixture(scope="module")
def tokeniser(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json()))
    return Tokeniser(path, 64, 0, INPUTS)


def rows_of(lengths):
    return [TokenRow(np.full(n, 1 + i), np.zeros(n, np.int64)) for i, n in enumerate(lengths)]


@given(lengths=st.lists(st.integers(1, 20), min_size=1, max_size=40), size=st.integers(1, 9))
def test_every_row_once_like_lengths_together_and_no_needless_padding(tokeniser, lengths, size):
    batches = list(batches_of_token_rows(rows_of(lengths), tokeniser, size))
    order = np.concatenate([batch.rows for batch in batches])
    assert sorted(order) == list(range(len(lengths)))
    assert [lengths[row] for row in order] == sorted(lengths)
    for batch in batches:
        assert len(batch.rows) <= size
        assert batch.feeds["input_ids"].shape == (len(batch.rows), max(lengths[row] for row in batch.rows))
        for place, row in enumerate(batch.rows):
            ids = batch.feeds["input_ids"][place]
            assert ids[: lengths[row]].tolist() == [row + 1] * lengths[row]
            assert batch.feeds["attention_mask"][place].sum() == lengths[row]
    assert sum(len(batch.rows) == size for batch in batches) == len(lengths) // size


@given(count=st.integers(1, 30), size=st.integers(1, 9))
def test_arrays_are_cut_in_order(count, size):
    feeds = {
        "input_ids": np.arange(count * 2).reshape(count, 2),
        "attention_mask": np.ones((count, 2), np.int64),
    }
    batches = list(batches_of_feeds(feeds, size))
    assert np.concatenate([batch.rows for batch in batches]).tolist() == list(range(count))
    for name, tensor in feeds.items():
        np.testing.assert_array_equal(np.concatenate([batch.feeds[name] for batch in batches]), tensor)
    assert max(len(batch.rows) for batch in batches) <= size


def test_sorting_saves_padding():
    """By count of tokens, which is what a batch costs: rows of 8 to 128 tokens, in batches of 32."""
    lengths = np.random.default_rng(0).integers(8, 129, 256)

    class Counting:
        def pad(self, rows):
            return {"input_ids": np.zeros((len(rows), max(map(len, rows))), dtype=np.int64)}

    rows = [TokenRow(np.zeros(length, dtype=np.int64), np.zeros(length, dtype=np.int64)) for length in lengths]
    sizes = [batch.feeds["input_ids"].size for batch in batches_of_token_rows(rows, Counting(), 32)]
    as_given = 32 * int(lengths.reshape(8, 32).max(axis=1).sum())
    assert lengths.sum() < np.sum(sizes) < 0.65 * as_given
