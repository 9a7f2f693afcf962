"""Batches of one task each, in proportion and full."""

import math
from collections import Counter
from itertools import pairwise

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.training.sampler import TaskBatchSampler, batches_by_task

tasks = st.lists(st.integers(1, 60), min_size=1, max_size=4)


def lengths_of(sizes, seed=0):
    random = np.random.default_rng(seed)
    return [random.integers(1, 50, size=size) for size in sizes]


def batches_of(sampler, epoch=0):
    sampler.set_epoch(epoch)
    return list(sampler)


@given(sizes=tasks, batch=st.integers(1, 16), seed=st.integers(0, 2**32 - 1), grouped=st.booleans())
def test_an_epoch_holds_every_row_in_full_batches_of_one_task(sizes, batch, seed, grouped):
    sampler = TaskBatchSampler(lengths_of(sizes), batch, seed, group_by_length=grouped)
    batches = batches_of(sampler)
    assert len(batches) == len(sampler)
    assert all(len(rows) == batch and len({task for task, _ in rows}) == 1 for rows in batches)
    per_task = Counter(rows[0][0] for rows in batches)
    assert per_task == {task: math.ceil(size / batch) for task, size in enumerate(sizes)}
    seen = Counter(row for rows in batches for row in rows)
    assert set(seen) == {(task, row) for task, size in enumerate(sizes) for row in range(size)}
    for task, size in enumerate(sizes):  # filled up evenly: no row twice more than another
        counts = [seen[task, row] for row in range(size)]
        assert max(counts) - min(counts) <= 1


@given(sizes=tasks, batch=st.integers(1, 16))
def test_at_temperature_one_every_row_is_seen(sizes, batch):
    assert batches_by_task(sizes, batch) == [math.ceil(size / batch) for size in sizes]


@given(sizes=tasks, batch=st.integers(1, 16), temperature=st.floats(0.01, 1e6).filter(lambda value: value != 1))
def test_shares_follow_the_temperature(sizes, batch, temperature):
    shares = batches_by_task(sizes, batch, temperature)
    whole = sum(math.ceil(size / batch) for size in sizes)
    weights = [(size / max(sizes)) ** (1 / temperature) for size in sizes]
    for share, weight in zip(shares, weights, strict=True):
        assert share >= 1
        assert share == 1 or abs(share - whole * weight / sum(weights)) < 1
    assert whole <= sum(shares) < whole + len(sizes)


def test_shares_by_hand():
    """Rates of 1000, 100 and 10 rows at temperature 2 are as their roots: 31.6, 10, 3.16 of 44.8."""
    assert batches_by_task([1000, 100, 10], 10, 2.0) == [78, 25, 8]  # of 111: 78.4, 24.8, 7.8
    assert batches_by_task([1000, 100, 10], 10, 1.0) == [100, 10, 1]
    assert batches_by_task([1000, 100, 10], 10, 1e9) == [37, 37, 37]
    assert batches_by_task([3, 3], 2, 10.0) == [2, 2]  # equal tasks are drawn alike


@given(sizes=tasks, batch=st.integers(1, 8), grouped=st.booleans(), temperature=st.sampled_from([0.5, 2.0, 10.0]))
def test_an_epoch_at_a_temperature(sizes, batch, grouped, temperature):
    sampler = TaskBatchSampler(lengths_of(sizes), batch, 3, temperature=temperature, group_by_length=grouped)
    batches = batches_of(sampler, 2)
    assert len(batches) == len(sampler)
    assert all(len(rows) == batch and len({task for task, _ in rows}) == 1 for rows in batches)
    per_task = Counter(rows[0][0] for rows in batches)
    assert per_task == dict(enumerate(batches_by_task(sizes, batch, temperature)))
    seen = Counter(row for rows in batches for row in rows)
    for task, size in enumerate(sizes):  # one pass after the other: no row twice more than another
        counts = [seen[task, row] for row in range(size)]
        assert max(counts) - min(counts) <= 1


def test_passes_over_a_small_task_differ():
    """In one epoch, too: else its batches would be the same ones again and again."""
    sampler = TaskBatchSampler(lengths_of([8, 800]), 8, 0, temperature=1e9)
    firsts = [tuple(row for _, row in rows) for rows in batches_of(sampler) if rows[0][0] == 0]
    assert len(firsts) == len(set(firsts)) == 50  # of 101 batches; each is the whole task in another order


def test_large_tasks_show_other_rows_in_the_next_epoch():
    sampler = TaskBatchSampler(lengths_of([8, 800]), 8, 0, temperature=1e9)
    seen = [{row for rows in batches_of(sampler, epoch) for row in rows if row[0] == 1} for epoch in range(2)]
    assert all(len(rows) == 51 * 8 for rows in seen) and len(seen[0] | seen[1]) > 500


@pytest.mark.parametrize("grouped", [False, True])
def test_the_order_follows_seed_and_epoch(grouped):
    def order(seed, epoch):
        return batches_of(TaskBatchSampler(lengths_of([40, 30]), 8, seed, group_by_length=grouped), epoch)

    assert order(1, 2) == order(1, 2)
    assert order(1, 2) != order(1, 3)
    assert order(1, 2) != order(2, 2)


def test_an_epoch_can_be_entered_at_once():
    """A resumed run asks for a later epoch first."""
    walked = TaskBatchSampler(lengths_of([40, 30]), 8, 5)
    for epoch in range(4):
        last = batches_of(walked, epoch)
    assert batches_of(TaskBatchSampler(lengths_of([40, 30]), 8, 5), 3) == last


def test_tasks_are_mixed_over_the_epoch():
    order = [rows[0][0] for rows in batches_of(TaskBatchSampler(lengths_of([320, 320]), 8, 0))]
    switches = sum(left != right for left, right in pairwise(order))
    assert 25 < switches < 55  # 80 batches, 40 of each task: 40 switches are expected


def test_grouping_pads_less_and_keeps_lengths_in_no_order():
    lengths = lengths_of([2000])

    def longest(grouped):
        sampler = TaskBatchSampler(lengths, 10, 0, group_by_length=grouped)
        return [max(lengths[0][row] for _, row in rows) for rows in batches_of(sampler)]

    assert np.mean(longest(True)) < 0.7 * np.mean(longest(False))
    assert abs(np.corrcoef(longest(True), np.arange(200))[0, 1]) < 0.25


def test_a_task_without_rows_is_refused():
    with pytest.raises(ValueError, match="every task needs rows"):
        TaskBatchSampler(lengths_of([3, 0]), 2, 0)
