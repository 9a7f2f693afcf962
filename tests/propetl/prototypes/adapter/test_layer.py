"""The adapter on paper; ``tests/propetl/test_attach.py`` has it inside every backbone."""

import torch

from propetl.prototypes.adapter.layer import adapted
from propetl.prototypes.effective import EffectiveWeights


def test_by_hand():
    """h = (1, 2), x = (8, 2).

    down: 8 * 1 + 2 * -1 + 1 = 7 and -8 + 0 + 0 = -8, so relu gives (7, 0).
    up: (7 * 1 + 0.5, 7 * 2 - 0.5) = (7.5, 13.5); plus h: (8.5, 15.5).
    """
    weights = EffectiveWeights(
        per_slot={
            "down.weight": torch.tensor([[[9.0, 9.0], [9.0, 9.0]], [[1.0, -1.0], [-1.0, 0.0]]]),
            "up.weight": torch.tensor([[[9.0, 9.0], [9.0, 9.0]], [[1.0, 5.0], [2.0, 5.0]]]),
        },
        shared={"down.bias": torch.tensor([1.0, 0.0]), "up.bias": torch.tensor([0.5, -0.5])},
    )
    hidden, inner = torch.tensor([[[1.0, 2.0]]]), torch.tensor([[[8.0, 2.0]]])
    found = adapted(hidden, inner, weights, slot=1, activation="relu")
    assert found.tolist() == [[[8.5, 15.5]]]
