"""Figures out of samples: nothing here measures, reads or prints."""

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

NS_PER_MS = 1e6


@dataclass(frozen=True)
class Spread:
    """Least, median and greatest of one figure over the rounds.

    Attributes:
        minimum: least.
        median: the figure to quote.
        maximum: greatest.
        rounds: how many rounds gave a value.
    """

    minimum: float
    median: float
    maximum: float
    rounds: int


@dataclass(frozen=True)
class Latency:
    """One runtime at one batch size and sequence length; times in milliseconds per call.

    Attributes:
        calls: how many were timed.
        mean: of all of them.
        p50, p90, p95, p99: quantiles of all of them, linear between neighbours.
        maximum: the slowest.
        rows_per_second: rows answered per second of running time.
    """

    calls: int
    mean: float
    p50: float
    p90: float
    p95: float
    p99: float
    maximum: float
    rows_per_second: float


def latency_of(samples: Sequence[int], rows: int) -> Latency:
    """Latency figures of calls that took ``samples`` nanoseconds each and answered ``rows`` rows each."""
    times = np.asarray(samples, dtype=np.float64) / NS_PER_MS
    p50, p90, p95, p99 = (float(value) for value in np.quantile(times, (0.5, 0.9, 0.95, 0.99)))
    rate = 1e3 * rows * len(times) / float(times.sum())
    return Latency(len(times), float(times.mean()), p50, p90, p95, p99, float(times.max()), rate)


def median_ms(samples: Sequence[int]) -> float:
    """Median of nanoseconds, in milliseconds."""
    return float(np.median(samples)) / NS_PER_MS


def spread_of(values: Sequence[float]) -> Spread:
    """Least, median and greatest of ``values``, one for each round."""
    return Spread(min(values), float(np.median(values)), max(values), len(values))


def spread_ms(ns: Sequence[int]) -> Spread:
    """:func:`spread_of` nanoseconds, in milliseconds."""
    return spread_of([value / NS_PER_MS for value in ns])


def ratio_spread(values: Sequence[float], references: Sequence[float]) -> Spread:
    """Spread of ``value / reference``, each taken within its own round: drift between rounds cancels."""
    return spread_of([value / reference for value, reference in zip(values, references, strict=True)])


def paired_difference_ms(pairs: Sequence[tuple[int, int]]) -> float:
    """Median of ``second - first`` over pairs of neighbouring calls, in milliseconds."""
    return float(np.median([second - first for first, second in pairs])) / NS_PER_MS


def paired_ratio(pairs: Sequence[tuple[int, int]]) -> float:
    """Median of ``second / first`` over pairs of neighbouring calls."""
    return float(np.median([second / first for first, second in pairs]))


def first_median_ms(pairs: Sequence[tuple[int, int]]) -> float:
    """Median of the first calls of ``pairs``, in milliseconds."""
    return median_ms([first for first, _ in pairs])
