"""Generation of one batch, by whichever way its options ask for."""

from collections.abc import Callable

import numpy as np

from propetl.errors import ConfigurationError
from propetl.runtime.generation.beam import beam_sequences
from propetl.runtime.generation.options import GenerationOptions, SpecialTokens
from propetl.runtime.generation.single import single_sequences
from propetl.runtime.generation.steps import Steps, Tokens

OnTokens = Callable[[Tokens], None]
"""Called with the next token of every row, int64 ``[rows]``; padding for rows that have ended."""


def generate(
    steps: Steps,
    options: GenerationOptions,
    special: SpecialTokens,
    places: Tokens | None = None,
    on_tokens: OnTokens | None = None,
) -> list[Tokens]:
    """Generates for one batch.

    Args:
        steps: the model over the batch.
        options: how to choose.
        special: end and padding tokens.
        places: of the rows in the caller's order, int64 ``[rows]``; None for 0, 1, 2, …
        on_tokens: receives tokens as they come; not with beam search, which knows its answer at the end.

    Returns:
        The generated tokens of each row, its end token included, without prompt and padding.

    Raises:
        ConfigurationError: ``on_tokens`` with beam search.
        AnswerError: the model's scores of a row are not finite; it names no task.
    """
    order = np.arange(len(steps.prompt())) if places is None else places
    if options.beams > 1:
        if on_tokens is not None:
            raise ConfigurationError(f"streaming goes with one beam; got {options.beams}: beam search ends at once")
        return [_until_end(row, special) for row in beam_sequences(steps, options, special, order)]
    columns = []
    for tokens in single_sequences(steps, options, special, order):
        columns.append(tokens)
        if on_tokens is not None:
            on_tokens(tokens)
    return [_until_end(row, special) for row in np.stack(columns, axis=1)]


def _until_end(tokens: Tokens, special: SpecialTokens) -> Tokens:
    ends = np.flatnonzero(np.isin(tokens, special.ends))
    return tokens[: ends[0] + 1] if len(ends) else tokens
