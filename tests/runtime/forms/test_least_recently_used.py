import threading
from concurrent.futures import ThreadPoolExecutor
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as draw

from propetl.runtime.forms.least_recently_used import LeastRecentlyUsed


@pytest.fixture
def made():
    """Keys in the order in which their values were made."""
    return []


def cache(made, budget):
    """Values are their keys; a key is as large as it says."""

    def make(key):
        made.append(key)
        return key, key

    return LeastRecentlyUsed(budget, make)


def test_a_value_is_made_once_while_it_is_kept(made):
    kept = cache(made, 10)
    assert [kept.get(key) for key in (3, 4, 3, 4)] == [3, 4, 3, 4]
    assert made == [3, 4] and kept.bytes == 7


def test_what_was_not_used_for_longest_goes_first(made):
    kept = cache(made, 10)
    for key in (3, 4, 3, 5):  # 3 was used after 4
        kept.get(key)
    assert kept.bytes == 8
    kept.get(3)
    kept.get(4)
    assert made == [3, 4, 5, 4]


def test_what_is_larger_than_the_budget_is_made_each_time(made):
    kept = cache(made, 10)
    kept.get(2)
    assert [kept.get(11), kept.get(11), kept.get(2)] == [11, 11, 2]
    assert made == [2, 11, 11] and kept.bytes == 2


def test_dropping(made):
    kept = cache(made, 10)
    kept.get(3)
    kept.drop(3)
    kept.drop(4)
    assert kept.bytes == 0
    kept.get(3)
    assert made == [3, 3]


def test_a_value_that_cannot_be_made_leaves_the_rest(made):
    def fail(key):
        if key == 2:
            raise ValueError("no")
        return key, key

    kept = LeastRecentlyUsed(10, fail)
    kept.get(1)
    with pytest.raises(ValueError, match="no"):
        kept.get(2)
    assert kept.get(1) == 1 and kept.bytes == 1


@given(budget=draw.integers(0, 30), uses=draw.lists(draw.integers(1, 12), max_size=60))
def test_it_is_a_list_in_order_of_use(budget, uses):
    made, kept, model = [], None, []
    kept = cache(made, budget)
    for key in uses:
        expected = len(made) + (key not in model)
        assert kept.get(key) == key and len(made) == expected
        model = [other for other in model if other != key] + ([key] if key <= budget else [])
        while sum(model) > budget:
            del model[0]
        assert kept.bytes == sum(model) <= budget


def test_what_is_dropped_while_it_is_made_is_not_kept():
    """The maker has begun, the key is dropped, the maker ends: whoever asked has the value, and nobody keeps it."""
    begun, dropped, here = threading.Event(), threading.Event(), {1, 2}

    def make(key):
        begun.set()
        assert dropped.wait(10)
        return key, key

    kept = LeastRecentlyUsed(10, make, here.__contains__)
    with ThreadPoolExecutor(1) as pool:
        asked = pool.submit(kept.get, 2)
        assert begun.wait(10)
        here.remove(2)
        kept.drop(2)
        dropped.set()
        assert asked.result() == 2
    assert kept.bytes == 0
    assert kept.get(2) == 2 and kept.bytes == 0  # a call that still runs it, later
    assert kept.get(1) == 1 and kept.bytes == 1


def test_many_threads_stay_within_the_budget(made):
    kept, barrier = cache(made, 40), threading.Barrier(8)

    def use(seed):
        random = Random(seed)
        barrier.wait()
        return all(kept.get(key) == key and kept.bytes <= 40 for key in random.choices(range(1, 16), k=3000))

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(use, range(8)))
    assert kept.bytes == sum(kept.get(key) for key in list(kept._kept))
