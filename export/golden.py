"""Golden rows: PyTorch's answers, which a device without PyTorch compares its own with."""

import numpy as np
import torch

from propetl.bundle.reader import Bundle
from propetl.model import ProPETLModel
from propetl.runtime.golden import MOST_TOKENS, Golden


def golden_of(model: ProPETLModel, bundle: Bundle, task: str) -> Golden:
    """Runs the bundle's sample rows of ``task`` through the trained model, in float32 on the CPU."""
    samples = {name: tensor.astype(np.int64) for name, tensor in bundle.samples(task).items()}
    feeds = {name: samples[name] for name in text_inputs_of(model)}
    inputs = {name: torch.from_numpy(array) for name, array in feeds.items()}
    with torch.no_grad():
        logits = model(task, **inputs).logits.float().numpy()
    text = model.infos[task].text
    if text is None:
        return Golden(feeds, logits)
    tokens = model.generate(task, inputs, max_new_tokens=min(text.max_target_length, MOST_TOKENS))
    return Golden(feeds, logits[:, -1], tokens.numpy())


def text_inputs_of(model: ProPETLModel) -> tuple[str, ...]:
    """Token inputs that the backbone takes."""
    return model.backbone.family.inputs
