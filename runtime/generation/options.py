"""How to generate: what a caller chooses, and what the model itself prescribes."""

from dataclasses import asdict, dataclass, replace
from math import inf
from typing import Any, Literal, TypedDict

import numpy as np

from propetl import fields
from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError
from propetl.runtime.whole_numbers import whole_number

EarlyStopping = bool | Literal["never"]


@dataclass(frozen=True)
class GenerationOptions:
    """What a caller chooses; the names in brackets are those of transformers' ``generate``.

    Attributes:
        max_new_tokens: tokens at most, the end token counted.
        min_new_tokens: tokens before which no end is taken.
        beams: sequences that are kept in beam search (``num_beams``); 1 takes the best token each time.
        length_penalty: exponent of the length by which a sequence's score is divided; above 0 favours long ones.
        early_stopping: in beam search, ``True`` stops when there are as many finished sequences as beams;
            ``False`` when a better one is unlikely; ``"never"`` when a better one is impossible.
        sample: draw tokens by their probability instead of taking the best (``do_sample``).
        temperature: of sampling; above 1 flattens the probabilities.
        top_k: draw among so many of the best tokens; 0 for all.
        top_p: draw among the best tokens whose probabilities add up to this.
        seed: of sampling; a row's tokens depend on it and on the row's place in the call, not on the batch.
        no_repeat_ngram: size of the sequences of tokens that may occur only once (``no_repeat_ngram_size``);
            0 for no such rule.
    """

    max_new_tokens: int = 64
    min_new_tokens: int = 0
    beams: int = 1
    length_penalty: float = 1.0
    early_stopping: EarlyStopping = False
    sample: bool = False
    temperature: float = 1.0
    top_k: int = 50
    top_p: float = 1.0
    seed: int = 0
    no_repeat_ngram: int = 0

    def __post_init__(self) -> None:
        for key in ("max_new_tokens", "beams", "min_new_tokens", "top_k", "seed", "no_repeat_ngram"):
            smallest = 1 if key in ("max_new_tokens", "beams") else 0
            object.__setattr__(self, key, whole_number(key, getattr(self, key), smallest))
        for key in ("length_penalty", "temperature", "top_p"):
            _check_number(key, getattr(self, key))
        if not isinstance(self.early_stopping, bool) and self.early_stopping != "never":
            raise ConfigurationError(f'early_stopping is True, False or "never"; got {self.early_stopping!r}')
        if not -inf < self.length_penalty < inf:
            raise ConfigurationError(f"length_penalty must be a finite number; got {self.length_penalty}")
        if not 0.0 < self.temperature < inf:
            raise ConfigurationError(f"temperature must be a positive number; got {self.temperature}")
        if not 0.0 < self.top_p <= 1.0:
            raise ConfigurationError(f"top_p lies in (0, 1]; got {self.top_p}")
        if self.sample and self.beams > 1:
            raise ConfigurationError(f"sampling draws one sequence; got {self.beams} beams: choose one or the other")


class GenerationChoices(TypedDict, total=False):
    """Keywords by which a caller changes some of :class:`GenerationOptions`."""

    max_new_tokens: int
    min_new_tokens: int
    beams: int
    length_penalty: float
    early_stopping: EarlyStopping
    sample: bool
    temperature: float
    top_k: int
    top_p: float
    seed: int
    no_repeat_ngram: int


def options_for(text: TextInfo, choices: GenerationChoices) -> GenerationOptions:
    """What a task says of its answers, changed by a caller's choices; who samples and names no beams gets one."""
    beams = 1 if choices.get("sample") else text.num_beams
    of_task = GenerationOptions(max_new_tokens=text.max_target_length, beams=beams, length_penalty=text.length_penalty)
    return replace(of_task, **choices)


@dataclass(frozen=True)
class SpecialTokens:
    """What the model prescribes.

    Attributes:
        start: first input of a decoder with an encoder; None where the prompt itself is the start.
        ends: tokens that end a sequence; empty where only the number of tokens does.
        pad: fills finished rows and short prompts.
    """

    start: int | None
    ends: tuple[int, ...]
    pad: int

    def __post_init__(self) -> None:
        for value in (self.pad, *self.ends, *(() if self.start is None else (self.start,))):
            whole_number("a special token", value, 0)

    def to_json(self) -> dict[str, Any]:
        """As written in ``artifact.json``."""
        return asdict(self) | {"ends": list(self.ends)}

    @classmethod
    def from_json(cls, value: Any) -> "SpecialTokens":
        """Inverse of :meth:`to_json`; an unknown key is a ValueError."""
        found = fields.record(value, "special", cls.__dataclass_fields__)
        ends = tuple(fields.whole(end, "special.ends") for end in fields.items(found["ends"], "special.ends"))
        start = fields.optional(fields.whole, found["start"], "special.start")
        return cls(start, ends, fields.whole(found["pad"], "special.pad"))


def _check_number(key: str, value: object) -> None:
    if not isinstance(value, int | float | np.integer | np.floating) or isinstance(value, bool):
        raise ConfigurationError(f"{key} must be a number; got {value!r}")
