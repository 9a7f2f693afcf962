"""Options of ``propetl predict`` for tasks that answer in text."""

from collections.abc import Callable
from functools import wraps
from typing import Any

import click

_EARLY_STOPPING = {"yes": True, "no": False, "never": "never"}

_OPTIONS = (
    click.option("--max-new-tokens", type=int, help="Tokens of an answer at most.  [default: as the task says]"),
    click.option("--min-new-tokens", type=int, help="Tokens of an answer at least.  [default: 0]"),
    click.option("--beams", type=int, help="Beams of the search; 1 is greedy.  [default: as the task says]"),
    click.option(
        "--length-penalty", type=float, help="Of beams; above 0 favours long answers.  [default: as the task]"
    ),
    click.option(
        "--early-stopping",
        type=click.Choice(list(_EARLY_STOPPING)),
        help="Stop when as many beams have ended as there are (yes), when a better answer is unlikely (no), or "
        "when it is impossible (never).  [default: no]",
    ),
    click.option("--no-repeat-ngram", type=int, help="So many tokens in a row occur only once.  [default: no rule]"),
    click.option("--sample", is_flag=True, default=None, help="Draw tokens by their probability."),
    click.option("--temperature", type=float, help="Of sampling.  [default: 1.0]"),
    click.option("--top-k", type=int, help="Draw among so many tokens; 0 for all.  [default: 50]"),
    click.option("--top-p", type=float, help="Draw among tokens of this probability together.  [default: 1.0]"),
    click.option("--seed", type=int, help="Of sampling.  [default: 0]"),
)

_NAMES = (
    "max_new_tokens",
    "min_new_tokens",
    "beams",
    "length_penalty",
    "early_stopping",
    "no_repeat_ngram",
    "sample",
    "temperature",
    "top_k",
    "top_p",
    "seed",
)


def generation_options(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the options to ``command``, which gets those that were given as ``choices``, by keyword."""

    @wraps(command)
    def with_choices(*arguments: Any, **keywords: Any) -> Any:
        given = {name: keywords.pop(name) for name in _NAMES}
        choices = {name: value for name, value in given.items() if value is not None}
        if "early_stopping" in choices:
            choices["early_stopping"] = _EARLY_STOPPING[choices["early_stopping"]]
        return command(*arguments, choices=choices, **keywords)

    for option in reversed(_OPTIONS):
        with_choices = option(with_choices)
    return with_choices
