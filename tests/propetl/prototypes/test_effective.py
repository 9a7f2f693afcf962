"""Weights at a slot, for a batch of one task or for rows of many."""

import torch

from propetl.prototypes.effective import EffectiveWeights, project

X = torch.arange(12.0).view(2, 2, 3)


def test_what_is_masked_is_looked_up_by_slot_and_what_is_shared_is_not():
    weights = EffectiveWeights({"a": torch.arange(6.0).view(3, 2)}, {"b": torch.tensor([7.0])})
    assert weights.at("a", 1).tolist() == [2.0, 3.0] and weights.at("b", 1).tolist() == [7.0]


def test_rows_come_before_slots():
    weights = EffectiveWeights({"a": torch.arange(8.0).view(2, 2, 2)}, rows=True)
    assert weights.at("a", 1).tolist() == [[2.0, 3.0], [6.0, 7.0]]


def test_projections_of_each_row_are_those_of_single_rows():
    weight, bias = torch.randn(2, 4, 3), torch.randn(2, 4)
    alone = torch.stack([project(X[row], weight[row], bias[row]) for row in range(2)])
    torch.testing.assert_close(project(X, weight, bias), alone)
    torch.testing.assert_close(project(X, weight), alone - bias[:, None])
    torch.testing.assert_close(project(X, weight, bias[0]), alone - bias[:, None] + bias[0])
    torch.testing.assert_close(project(X, weight[0]), X @ weight[0].T)
