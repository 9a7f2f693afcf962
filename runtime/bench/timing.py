"""Timing calls inside a worker."""

import gc
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from itertools import cycle

Call = Callable[[], object]
Clock = Callable[[], int]

MAX_CALLS = 5000
"""Per visit, so that a visit to a tiny model stays a message of moderate size."""

_WARM_UP_SHARE = 0.1


def warm_up(call: Call, seconds: float, clock: Clock = time.perf_counter_ns) -> None:
    """Runs ``call`` at least once, and for a tenth of what is going to be timed."""
    end = clock() + int(_WARM_UP_SHARE * seconds * 1e9)
    call()
    while clock() < end:
        call()


def timed_calls(call: Call, seconds: float, minimum: int, clock: Clock = time.perf_counter_ns) -> list[int]:
    """Nanoseconds of each of many calls.

    Args:
        call: what to time.
        seconds: how long to go on.
        minimum: calls to make even if that takes longer.
        clock: a clock in nanoseconds.
    """
    taken: list[int] = []
    end = clock() + int(seconds * 1e9)
    while len(taken) < minimum or (clock() < end and len(taken) < MAX_CALLS):
        taken.append(_time_of(call, clock))
    return taken


def timed_pairs(
    first: Sequence[Call], second: Sequence[Call], seconds: float, clock: Clock = time.perf_counter_ns
) -> list[tuple[int, int]]:
    """Nanoseconds of pairs of calls, one right after the other.

    Pair ``i`` is ``first[i]`` and ``second[i]``, starting over at the end; only whole turns are made, so that
    every entry weighs the same. Between any two calls the same happens, within a pair or not.
    """
    turn = [call for pair in zip(first, second, strict=True) for call in pair]
    calls = cycle(turn)
    taken: list[int] = []
    end = clock() + int(seconds * 1e9)
    while not taken or len(taken) % len(turn) or (clock() < end and len(taken) < 2 * MAX_CALLS):
        taken.append(_time_of(next(calls), clock))
    return list(zip(taken[::2], taken[1::2], strict=True))


@contextmanager
def without_collector() -> Iterator[None]:
    """No garbage collection meanwhile: it would fall on whichever call is running."""
    gc.collect()
    gc.disable()
    try:
        yield
    finally:
        gc.enable()


def _time_of(call: Call, clock: Clock) -> int:
    start = clock()
    call()
    return clock() - start
