import gc

import pytest

from propetl.runtime.bench.timing import MAX_CALLS, timed_calls, timed_pairs, warm_up, without_collector


class Clock:
    """Time that passes only in calls."""

    def __init__(self):
        self.now = 0
        self.called = []

    def __call__(self):
        return self.now

    def call(self, name, nanoseconds):
        def run():
            self.called.append(name)
            self.now += nanoseconds

        return run


def test_calls_fill_the_time_given():
    clock = Clock()
    assert timed_calls(clock.call("a", 100_000), 1e-3, 1, clock) == [100_000] * 10


def test_slow_calls_are_made_all_the_same():
    clock = Clock()
    assert timed_calls(clock.call("a", 10**9), 1e-3, 3, clock) == [10**9] * 3


def test_fast_calls_end_somewhere():
    clock = Clock()
    assert len(timed_calls(clock.call("a", 1), 60, 1, clock)) == MAX_CALLS


@pytest.mark.parametrize(("nanoseconds", "calls"), [(10**9, 1), (10_000_000, 3)])
def test_warming_up_takes_a_tenth_and_a_call_at_least(nanoseconds, calls):
    clock = Clock()
    warm_up(clock.call("a", nanoseconds), 0.3, clock)
    assert len(clock.called) == calls


def test_pairs_are_neighbours_and_turns_are_whole():
    clock = Clock()
    first = [clock.call("a", 30), clock.call("b", 40)]
    second = [clock.call("b", 50), clock.call("a", 60)]
    pairs = timed_pairs(first, second, 200e-9, clock)
    assert pairs == [(30, 50), (40, 60)] * 2  # the second turn had begun when time was up
    assert clock.called == ["a", "b", "b", "a"] * 2


def test_a_slow_turn_is_finished():
    clock = Clock()
    calls = [clock.call(name, 10**9) for name in "abc"]
    assert len(timed_pairs(calls, calls, 1e-3, clock)) == 3


def test_the_collector_rests_and_comes_back():
    with without_collector():
        assert not gc.isenabled()
    assert gc.isenabled()


def test_the_collector_comes_back_after_an_error():
    with pytest.raises(ZeroDivisionError), without_collector():
        raise ZeroDivisionError
    assert gc.isenabled()
