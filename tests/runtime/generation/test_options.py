"""Options that cannot be are refused by name."""

import pytest

from propetl.errors import ConfigurationError
from propetl.runtime.generation.options import GenerationOptions, SpecialTokens


@pytest.mark.parametrize(
    "wrong",
    [
        {"max_new_tokens": 0},
        {"max_new_tokens": 2.5},
        {"beams": True},
        {"min_new_tokens": -1},
        {"top_k": -1},
        {"seed": -1},
        {"no_repeat_ngram": "2"},
        {"early_stopping": "always"},
        {"length_penalty": float("nan")},
        {"temperature": 0.0},
        {"temperature": float("inf")},
        {"top_p": 0.0},
        {"top_p": 1.1},
    ],
    ids=str,
)
def test_an_option_out_of_range_is_refused(wrong) -> None:
    with pytest.raises(ConfigurationError, match=next(iter(wrong))):
        GenerationOptions(**wrong)


def test_sampling_and_beams_exclude_each_other() -> None:
    with pytest.raises(ConfigurationError, match="4 beams"):
        GenerationOptions(sample=True, beams=4)


def test_special_tokens_survive_json() -> None:
    special = SpecialTokens(0, (1, 7), 3)
    assert SpecialTokens.from_json(special.to_json()) == special
    with pytest.raises(ValueError, match="unheard"):
        SpecialTokens.from_json(special.to_json() | {"unheard": 1})


@pytest.mark.parametrize("wrong", [{"start": -1}, {"ends": (1, "2")}, {"pad": None}], ids=str)
def test_special_tokens_are_token_ids(wrong) -> None:
    with pytest.raises(ConfigurationError, match="whole number"):
        SpecialTokens(**{"start": 0, "ends": (1,), "pad": 0} | wrong)
