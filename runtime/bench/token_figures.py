"""Figures of tokens, where answers are generated."""

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import pairwise

from propetl.runtime.bench.messages import Cell
from propetl.runtime.bench.plan import EAGER, Plan
from propetl.runtime.bench.samples import Samples
from propetl.runtime.bench.stats import Latency, Spread, latency_of, median_ms, ratio_spread, spread_of


@dataclass(frozen=True)
class GenerationFigures:
    """Tokens of one runtime in one cell, over all rounds; times in milliseconds, for the whole batch.

    Attributes:
        new_tokens: that each call generates for each row.
        beams: that it does so with.
        first: from the call to the scores of the first token.
        step: from a token to the next.
        tokens_per_second: of all rows of a call of median length, a round each.
        to_eager: that to transformers' ``generate`` of the same round; None for itself or without it.
    """

    runtime: str
    batch: int
    sequence: int
    new_tokens: int
    beams: int
    first: Latency
    step: Latency
    tokens_per_second: Spread
    to_eager: Spread | None


def generation_figures(plan: Plan, samples: Samples) -> Iterator[GenerationFigures]:
    """Figures of each runtime in each cell."""
    for cell in plan.cells:
        eager = _rates(plan, cell, samples.tokens.get((EAGER, cell), []))
        for runtime in plan.runtimes:
            rounds = samples.tokens[runtime.name, cell]
            calls = [times for calls in rounds for times in calls]
            rates = _rates(plan, cell, rounds)
            yield GenerationFigures(
                runtime=runtime.name,
                batch=cell.batch,
                sequence=cell.sequence,
                new_tokens=plan.new_tokens,
                beams=plan.beams,
                first=latency_of([times[0] for times in calls], cell.batch),
                step=latency_of([later - sooner for times in calls for sooner, later in pairwise(times)], cell.batch),
                tokens_per_second=spread_of(rates),
                to_eager=ratio_spread(rates, eager) if eager and runtime.name != EAGER else None,
            )


def _rates(plan: Plan, cell: Cell, rounds: list[list[list[int]]]) -> list[float]:
    """Tokens per second of each round."""
    tokens = 1e3 * cell.batch * plan.new_tokens
    return [tokens / median_ms([times[-1] for times in calls]) for calls in rounds]
