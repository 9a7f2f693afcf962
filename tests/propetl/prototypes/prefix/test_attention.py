"""Prefixes: their split, attention over them written out, and the MLP that makes them."""

import pytest
import torch

from propetl.prototypes.prefix.attention import attend, keys_and_values
from propetl.prototypes.prefix.reparametrisation import PrefixReparametrisation


def plain_attention(query, key, value, prefix, real):
    """One query vector of one head at a time; ``real`` says which of the text's keys count."""
    keys, values = torch.cat([prefix[0], key]), torch.cat([prefix[1], value])
    counts = torch.cat([torch.ones(len(prefix[0]), dtype=torch.bool), real])
    weights = torch.where(counts, (keys @ query / 2).exp(), 0.0)  # head size 4: scale 1/2
    return (weights[:, None] * values).sum(0) / weights.sum()


def test_the_first_half_of_the_columns_are_keys():
    """Hidden 4, two heads of size 2, two vectors: keys are columns 0-3, of head 0 columns 0-1."""
    prefix = torch.arange(16.0).view(2, 8)
    keys, values = keys_and_values(prefix, heads=2)
    assert keys.shape == values.shape == (1, 2, 2, 2)
    assert keys[0].tolist() == [[[0, 1], [8, 9]], [[2, 3], [10, 11]]]
    assert values[0].tolist() == [[[4, 5], [12, 13]], [[6, 7], [14, 15]]]


def test_a_prefix_for_each_row():
    prefixes = torch.randn(3, 2, 8)
    together = keys_and_values(prefixes, heads=2)
    for row in range(3):
        for found, single in zip(together, keys_and_values(prefixes[row], heads=2), strict=True):
            assert torch.equal(found[row], single[0])


@pytest.mark.parametrize("mask_kind", ["bool", "additive", "none"])
def test_attention_over_prefix_and_text(mask_kind):
    query, key, value = torch.randn(3, 2, 2, 3, 4)  # [batch 2, heads 2, seq 3, size 4]
    prefix = torch.randn(2, 1, 2, 5, 4)
    real = torch.ones(2, 3, dtype=torch.bool)
    if mask_kind != "none":
        real[1, 2] = False
    mask = {
        "bool": real[:, None, None, :],
        "additive": torch.where(real, 0.0, torch.finfo(torch.float32).min)[:, None, None, :],
        "none": None,
    }[mask_kind]
    found = attend(query, key, value, (prefix[0], prefix[1]), mask, scale=0.5, dropout=0.0)
    for row in range(2):
        for head in range(2):
            for place in range(3):
                expected = plain_attention(
                    query[row, head, place], key[row, head], value[row, head], prefix[:, 0, head], real[row]
                )
                torch.testing.assert_close(found[row, head, place], expected, rtol=1e-5, atol=1e-5)


@pytest.mark.parametrize("slots", [1, 3])
def test_the_reparametrisation_by_hand(slots):
    made_by = PrefixReparametrisation(length=2, hidden=4, inner=5, slots=slots)
    hidden = torch.tanh(made_by.embedding @ made_by.enter.weight.T + made_by.enter.bias)
    flat = hidden @ made_by.leave.weight.T + made_by.leave.bias  # [2, slots * 8]
    found = made_by().view(slots, 2, 8)
    for slot in range(slots):
        torch.testing.assert_close(found[slot], flat[:, 8 * slot : 8 * slot + 8])
    found.sum().backward()
    assert all(parameter.grad is not None for parameter in made_by.parameters())
