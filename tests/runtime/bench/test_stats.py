import math
import statistics
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.runtime.bench.stats import (
    first_median_ms,
    latency_of,
    median_ms,
    paired_difference_ms,
    paired_ratio,
    ratio_spread,
    spread_of,
)

TIMES = st.lists(st.integers(1, 10**11), min_size=1, max_size=60)
PAIRS = st.lists(st.tuples(st.integers(1, 10**11), st.integers(1, 10**11)), min_size=1, max_size=40)
ROUNDS = st.lists(st.tuples(st.floats(1e-3, 1e3), st.floats(1e-3, 1e3)), min_size=1, max_size=12)


def test_latency_of_known_times():
    latency = latency_of([1_000_000 * number for number in range(1, 102)], rows=8)  # 1, 2, … 101 ms
    assert (latency.calls, latency.mean, latency.maximum) == (101, 51, 101)
    assert (latency.p50, latency.p90, latency.p95, latency.p99) == pytest.approx((51, 91, 96, 100))
    assert latency.rows_per_second == pytest.approx(8 / 0.051)


@given(TIMES, st.integers(1, 64))
def test_quantiles_are_ordered_and_within_the_samples(samples, rows):
    latency = latency_of(samples, rows)
    figures = [latency.p50, latency.p90, latency.p95, latency.p99, latency.maximum]
    assert all(low <= high * (1 + 1e-12) for low, high in pairwise(figures))
    assert latency.p50 >= min(samples) / 1e6 * (1 - 1e-12)
    assert latency.maximum == max(samples) / 1e6
    assert latency.p50 == pytest.approx(statistics.median(samples) / 1e6)
    assert latency.rows_per_second == pytest.approx(1e9 * rows * len(samples) / sum(samples))


@given(TIMES, st.randoms(use_true_random=False))
def test_the_order_of_calls_does_not_matter(samples, random):
    shuffled = list(samples)
    random.shuffle(shuffled)
    assert latency_of(shuffled, 1).p95 == pytest.approx(latency_of(samples, 1).p95)
    assert median_ms(shuffled) == median_ms(samples)


@given(st.lists(st.floats(-1e6, 1e6), min_size=1))
def test_a_spread_holds_every_value(values):
    spread = spread_of(values)
    assert spread.minimum <= spread.median <= spread.maximum
    assert {spread.minimum, spread.maximum} <= set(values)
    assert spread.rounds == len(values)


@given(ROUNDS, st.lists(st.floats(0.1, 10), min_size=12, max_size=12))
def test_a_drift_that_hits_both_cancels_in_ratios(rounds, drifts):
    values, references = zip(*rounds, strict=True)
    still = ratio_spread(values, references)
    drifting = ratio_spread(
        [value * drift for value, drift in zip(values, drifts, strict=False)],
        [value * drift for value, drift in zip(references, drifts, strict=False)],
    )
    assert drifting.median == pytest.approx(still.median)
    assert (drifting.minimum, drifting.maximum) == pytest.approx((still.minimum, still.maximum))


def test_rounds_that_do_not_match_are_refused():
    with pytest.raises(ValueError, match="shorter"):
        ratio_spread([1.0, 2.0], [1.0])


@given(PAIRS, st.integers(0, 10**9))
def test_a_cost_added_to_every_second_call_is_found(pairs, cost):
    slower = [(first, second + cost) for first, second in pairs]
    added = paired_difference_ms(slower) - paired_difference_ms(pairs)
    assert math.isclose(added, cost / 1e6, rel_tol=1e-6, abs_tol=1e-6)


@given(PAIRS)
def test_pairs_turned_round(pairs):
    turned = [(second, first) for first, second in pairs]
    assert paired_difference_ms(turned) == pytest.approx(-paired_difference_ms(pairs))
    assert first_median_ms(turned) == median_ms([second for _, second in pairs])


def test_ratio_of_pairs():
    assert paired_ratio([(10, 11), (20, 22), (5, 50)]) == pytest.approx(1.1)


def test_what_tasks_differ_by_cancels_over_a_turn():
    # Task B takes 7 more than A wherever it runs, and switching takes 2: A A | A→B, B B | B→A.
    pairs = [(100, 109), (107, 102)] * 5
    assert paired_difference_ms(pairs) == pytest.approx(2e-6)
