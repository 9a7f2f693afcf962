"""Which parameters learn at which rate, and which decay."""

from typing import Any

from torch import nn

from propetl.model import ProPETLModel


def parameter_groups(
    model: ProPETLModel, rate: float, score_rate: float, weight_decay: float
) -> list[dict[str, Any]]:
    """Groups for the optimizer; a method without scores has no group for them."""
    others = model.other_parameters()
    decayed = [parameter for name, parameter in others if _decays(name, parameter)]
    plain = [parameter for name, parameter in others if not _decays(name, parameter)]
    scores = [parameter for _, parameter in model.score_parameters()]
    groups = [
        {"params": decayed, "lr": rate, "weight_decay": weight_decay},
        {"params": plain, "lr": rate, "weight_decay": 0.0},
        {"params": scores, "lr": score_rate, "weight_decay": 0.0},
    ]
    return [group for group in groups if group["params"]]


def _decays(name: str, parameter: nn.Parameter) -> bool:
    """Weight matrices do; biases (also those with a slot axis) and LayerNorms do not."""
    return parameter.ndim > 1 and not name.endswith("bias")
