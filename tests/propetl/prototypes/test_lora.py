"""LoRA on paper: the branch, and the same merged into the matrix."""

import torch
from torch import nn

from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.lora import branch, merged

X = torch.tensor([[[1.0, -1.0, 2.0]]])
A = torch.tensor([[1.0, 0.0, 1.0], [0.0, 2.0, 0.0]])  # A x = (3, -2)
B = torch.tensor([[1.0, 1.0], [0.0, -1.0]])  # B (3, -2) = (1, 2)
WEIGHTS = EffectiveWeights({"query.a": torch.stack([9 * A, A]), "query.b": torch.stack([9 * B, B])})


def test_the_branch_by_hand():
    assert branch(X, WEIGHTS, "query", slot=1, scale=1.5).tolist() == [[[1.5, 3.0]]]


def test_merged_by_hand():
    """W + s B A with s = 0.5 and B A = ((1, 2, 1), (0, -2, 0)); W = ((1, 1, 1), (0, 1, 0)) and b = (10, 20).

    W + s B A = ((1.5, 2, 1.5), (0, 0, 0)), so (1.5 - 2 + 3 + 10, 20).
    """
    base = nn.Linear(3, 2)
    with torch.no_grad():
        base.weight.copy_(torch.tensor([[1.0, 1.0, 1.0], [0.0, 1.0, 0.0]]))
        base.bias.copy_(torch.tensor([10.0, 20.0]))
    assert merged(X, base, WEIGHTS, "query", slot=1, scale=0.5).tolist() == [[[12.5, 20.0]]]
    torch.testing.assert_close(merged(X, base, WEIGHTS, "query", 1, 0.5), base(X) + branch(X, WEIGHTS, "query", 1, 0.5))
