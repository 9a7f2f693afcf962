"""A task's weights with its masks applied: what is left when masks have vanished."""

import numpy as np
import torch
from numpy.typing import NDArray

from propetl.model import ProPETLModel

FoldedWeights = dict[str, NDArray[np.float32]]


def folded_weights(model: ProPETLModel, task: str) -> FoldedWeights:
    """Weights that run for ``task``, by tensor of the method: float32 ``[slots, *shape]``.

    What all slots share, such as the biases of a masked adapter, is repeated for each. Where encoder and decoder have
    a prototype each, the decoder's slots stand behind the encoder's.
    """
    layout = model.layout
    with torch.no_grad():
        weights = model.effective(task)
        parts = [(weights.of(prototype), slots) for prototype, slots in layout.prototypes.items()]
        stacked = {
            name: torch.stack([part.at(name, slot) for part, slots in parts for slot in range(slots)])
            for name in (part.name for part in layout.parts)
        }
    return {name: value.float().cpu().numpy() for name, value in stacked.items()}
