"""A task's weights with its masks applied: what is left when masks have vanished."""

import numpy as np
import torch
from numpy.typing import NDArray

from propetl.model import ProPETLModel

FoldedWeights = dict[str, NDArray[np.float32]]


def folded_weights(model: ProPETLModel, task: str) -> FoldedWeights:
    """Weights that run for ``task``, by tensor of the method: float32 ``[slots, *shape]``.

    What all slots share, such as the biases of a masked adapter, is repeated for each.
    """
    with torch.no_grad():
        weights = model.effective(task)
        stacked = {
            tensor.name: torch.stack([weights.at(tensor.name, slot) for slot in range(model.layout.slots)])
            for tensor in model.layout.tensors
        }
    return {name: value.float().cpu().numpy() for name, value in stacked.items()}
