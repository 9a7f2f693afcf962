"""The loops choose, token for token, what transformers' ``generate`` chooses."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pytest
import torch

from propetl.errors import ConfigurationError
from propetl.runtime.generation.generate import generate
from propetl.runtime.generation.options import GenerationOptions, SpecialTokens
from tests.runtime.generation.torch_steps import DecoderSteps, EncoderDecoderSteps
from tests.tiny_generators import END, PAD, START, Ids, random_prompts, tiny_gpt2, tiny_t5, until_end

ROUNDS = 5

# transformers' names of the options.
NAMES = {"beams": "num_beams", "no_repeat_ngram": "no_repeat_ngram_size"}


@dataclass(frozen=True)
class Kind:
    """A model with its interface."""

    model: Any
    steps: Any
    side: str
    special: SpecialTokens

    def ours(self, ids: Ids, mask: Ids, options: GenerationOptions) -> list[list[int]]:
        return [row.tolist() for row in generate(self.steps(self.model, ids, mask), options, self.special)]

    def theirs(self, ids: Ids, mask: Ids, **options: Any) -> list[list[int]]:
        with torch.no_grad():
            found = self.model.generate(torch.from_numpy(ids), attention_mask=torch.from_numpy(mask), **options)
        start = 1 if self.special.start is not None else ids.shape[1]
        return [until_end(row, self.special.ends) for row in found[:, start:].tolist()]


def kind_of(name: str) -> Kind:
    if name == "t5":
        return Kind(tiny_t5(), EncoderDecoderSteps, "right", SpecialTokens(START, (END,), PAD))
    if name == "two ends":
        model = tiny_gpt2()
        model.generation_config.eos_token_id = [END, 7]
        return Kind(model, DecoderSteps, "left", SpecialTokens(None, (END, 7), PAD))
    return Kind(tiny_gpt2(), DecoderSteps, "left", SpecialTokens(None, (END,), PAD))


@pytest.fixture(scope="module", params=["t5", "gpt2", "two ends"])
def kind(request):
    return kind_of(request.param)


CHOICES = [
    {},
    {"no_repeat_ngram": 2},
    {"min_new_tokens": 4},
    {"beams": 2},
    {"beams": 3, "length_penalty": 0.0},
    {"beams": 3, "length_penalty": 2.0, "early_stopping": True},
    {"beams": 4, "length_penalty": -1.0, "early_stopping": "never"},
    {"beams": 4, "length_penalty": 0.7, "early_stopping": "never"},
    {"beams": 5, "early_stopping": True, "no_repeat_ngram": 3},
    {"beams": 5, "length_penalty": 1.3, "min_new_tokens": 3},
]


@pytest.mark.parametrize("choice", CHOICES, ids=str)
def test_the_tokens_are_those_of_transformers(kind, choice) -> None:
    random = np.random.default_rng(len(str(choice)))
    lengths = set()
    for round_ in range(ROUNDS):
        ids, mask = random_prompts(random, rows=int(random.integers(2, 6)), length=1 + 2 * round_, side=kind.side)
        options = GenerationOptions(max_new_tokens=14, **choice)
        found = kind.ours(ids, mask, options)
        theirs = {NAMES.get(key, key): value for key, value in choice.items()}
        assert found == kind.theirs(ids, mask, max_new_tokens=14, do_sample=False, **theirs)
        lengths |= {len(row) for row in found}
    assert len(lengths) > 1  # rows that all ended alike would test little


def test_one_token_and_one_beam_are_no_special_case(kind) -> None:
    ids, mask = random_prompts(np.random.default_rng(3), 3, 5, kind.side)
    for beams in (1, 2):
        found = kind.ours(ids, mask, GenerationOptions(max_new_tokens=1, beams=beams))
        assert found == kind.theirs(ids, mask, max_new_tokens=1, num_beams=beams, do_sample=False)


def test_a_row_gets_the_same_tokens_in_any_batch(kind) -> None:
    ids, mask = random_prompts(np.random.default_rng(4), 5, 6, kind.side)
    for options in (GenerationOptions(12), GenerationOptions(12, beams=3), GenerationOptions(12, sample=True, seed=5)):
        together = kind.ours(ids, mask, options)
        for row in range(5):
            steps = kind.steps(kind.model, ids[row : row + 1], mask[row : row + 1])
            alone = generate(steps, options, kind.special, places=np.array([row]))
            assert alone[0].tolist() == together[row]


def test_tokens_are_handed_on_as_they_come() -> None:
    kind = kind_of("t5")
    ids, mask = random_prompts(np.random.default_rng(6), 4, 5, kind.side)
    columns: list[list[int]] = []
    found = generate(
        kind.steps(kind.model, ids, mask),
        GenerationOptions(10),
        kind.special,
        on_tokens=lambda tokens: columns.append(tokens.tolist()),
    )
    assert len(columns) == max(map(len, found))
    for row, tokens in enumerate(found):
        streamed = [column[row] for column in columns]
        assert streamed == [*tokens.tolist(), *[PAD] * (len(columns) - len(tokens))]


def test_beam_search_has_nothing_to_hand_on() -> None:
    kind = kind_of("t5")
    steps = kind.steps(kind.model, *random_prompts(np.random.default_rng(0), 1, 2, "right"))
    with pytest.raises(ConfigurationError, match="one beam"):
        generate(steps, GenerationOptions(beams=2), kind.special, on_tokens=lambda tokens: None)


class CountingSteps(EncoderDecoderSteps):
    rows: list[int]

    def after(self, tokens: Ids) -> Any:
        self.rows.append(len(tokens))
        return super().after(tokens)


def test_rows_that_have_ended_are_no_longer_computed() -> None:
    kind = kind_of("t5")
    ids, mask = random_prompts(np.random.default_rng(7), 8, 5, kind.side)
    steps = CountingSteps(kind.model, ids, mask)
    steps.rows = []
    found = generate(steps, GenerationOptions(14), kind.special)
    for step, computed in enumerate(steps.rows, 1):
        left = sum(len(row) > step for row in found)
        assert left <= computed and (computed < 2 * left or computed == left)
