"""What peers in PyTorch have in common: the classifier, its inputs, and a call without gradients."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch


def classifier(source: str) -> Any:
    """The backbone with transformers' own classification head of two labels, in evaluation mode."""
    from transformers import AutoModelForSequenceClassification

    torch.manual_seed(0)
    return AutoModelForSequenceClassification.from_pretrained(source, num_labels=2).eval()


def tensors(feeds: Mapping[str, np.ndarray]) -> dict[str, torch.Tensor]:
    """Token inputs as tensors."""
    return {name: torch.from_numpy(value) for name, value in feeds.items()}


def logits_of(model: Any, feeds: Mapping[str, np.ndarray], **more: Any) -> np.ndarray:
    """Logits of one batch."""
    with torch.inference_mode():
        found: np.ndarray = model(**tensors(feeds), **more).logits.numpy()
    return found


def randomise(model: Any, part: str) -> None:
    """Gives the parameters whose names hold ``part`` values of the size that trained ones have."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if part in name:
                parameter.normal_(std=0.02)
