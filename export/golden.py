"""Golden rows: PyTorch's answers, which a device without PyTorch compares its own with."""

import numpy as np
import torch

from propetl.bundle.reader import Bundle
from propetl.model import ProPETLModel
from propetl.runtime.golden import Golden


def golden_of(model: ProPETLModel, bundle: Bundle, task: str) -> Golden:
    """Runs the bundle's sample rows of ``task`` through the trained model, in float32 on the CPU."""
    samples = {name: tensor.astype(np.int64) for name, tensor in bundle.samples(task).items()}
    feeds = {name: samples[name] for name in text_inputs_of(model)}
    with torch.no_grad():
        logits = model(task, **{name: torch.from_numpy(array) for name, array in feeds.items()}).logits
    return Golden(feeds, logits.float().numpy())


def text_inputs_of(model: ProPETLModel) -> tuple[str, ...]:
    """Token inputs that the backbone takes."""
    types = ("token_type_ids",) if model.backbone.family.takes_token_types else ()
    return ("input_ids", "attention_mask", *types)
