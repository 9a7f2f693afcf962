"""LoRA on paper: the branch, and the same merged into the matrix."""

import pytest
import torch

from propetl.families import Projection
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.lora.layer import branch, delta

X = torch.tensor([[[1.0, -1.0, 2.0]]])
A = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]])  # A x = (3, -2)
B = torch.tensor([[1.0, 1.0], [0.0, -1.0]])  # B (3, -2) = (1, 2)
WEIGHTS = EffectiveWeights({"query.a": torch.stack([9 * A, A]), "query.b": torch.stack([9 * B, B])})


def test_the_branch_by_hand():
    assert branch(X, WEIGHTS, "query", slot=1, scale=1.5).tolist() == [[[1.5, 3.0]]]


def test_what_is_merged_by_hand():
    """B A = ((1, 2, 1), (0, -2, 0)), times s = 0.5."""
    assert delta(WEIGHTS, "query", slot=1, scale=0.5).tolist() == [[0.5, 1.0, 0.5], [0.0, -1.0, 0.0]]
    torch.testing.assert_close(X @ delta(WEIGHTS, "query", 1, 0.5).T, branch(X, WEIGHTS, "query", 1, 0.5))


@pytest.mark.parametrize("part", [0, 1, 2])
def test_a_part_of_a_fused_projection_leaves_the_others_alone(part):
    place = Projection("qkv", part, 3)
    rows = [index in range(2 * part, 2 * part + 2) for index in range(6)]
    whole, alone = delta(WEIGHTS, "query", 1, 0.5, place), delta(WEIGHTS, "query", 1, 0.5)
    assert whole.shape == (6, 3) and torch.equal(whole[rows], alone)
    assert not whole[[not row for row in rows]].any()
    torch.testing.assert_close(X @ whole.T, branch(X, WEIGHTS, "query", 1, 0.5, place))
