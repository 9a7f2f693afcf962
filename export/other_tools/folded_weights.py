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
        stacked = {
            part.name: torch.stack(
                [
                    weights.at(tensor.name, slot)
                    for tensor in layout.tensors
                    if tensor.name == tensor.prototype + part.name
                    for slot in range(tensor.slots)
                ]
            )
            for part in layout.parts
        }
    return {name: value.float().cpu().numpy() for name, value in stacked.items()}
