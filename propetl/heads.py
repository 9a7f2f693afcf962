"""Heads: from hidden states, one token's or all tokens', to a task's logits."""

from collections.abc import Callable, Mapping
from typing import Any

import torch
from torch import Tensor, nn

from propetl.activations import ACTIVATIONS
from propetl.families import Kind
from propetl.prototypes.effective import project


def pooled(network: Any, kind: Kind, inputs: Mapping[str, Tensor]) -> Tensor:
    """Last hidden state of the token that stands for its row: the first, of a decoder the last real one.

    Args:
        network: one of transformers' models.
        kind: ``encoder`` or ``decoder``.
        inputs: its inputs, int64 ``[batch, seq]``.

    Returns:
        ``[batch, hidden]``.
    """
    hidden = token_states(network, kind, inputs)
    if kind == "encoder":
        return hidden[:, 0]
    last = inputs["attention_mask"].cumsum(dim=1).argmax(dim=1)  # [batch]: the first place that has counted all
    return hidden.gather(1, last[:, None, None].expand(-1, 1, hidden.shape[-1])).squeeze(1)


def token_states(network: Any, kind: Kind, inputs: Mapping[str, Tensor]) -> Tensor:
    """Last hidden state of every token, ``[batch, seq, hidden]``; arguments as for :func:`pooled`."""
    if kind == "encoder":
        hidden: Tensor = network(**inputs).last_hidden_state
    else:
        places = positions(inputs["attention_mask"])
        hidden = network.base_model(**inputs, position_ids=places, use_cache=False).last_hidden_state
    return hidden


def positions(mask: Tensor) -> Tensor:
    """Positions of real tokens, wherever padding stands: int64 ``[batch, seq]``."""
    return (mask.cumsum(dim=1) - 1).clamp(min=0)


def logits_of(
    state: Tensor,
    head: Mapping[str, Tensor],
    activation: str,
    dropout: Callable[[Tensor], Tensor] | None = None,
) -> Tensor:
    """Applies a head.

    Args:
        state: hidden state of one token ``[batch, hidden]``, or of every token ``[batch, seq, hidden]``.
        head: ``weight`` ``[outputs, hidden]`` and ``bias`` ``[outputs]``; the family's own head also has
            ``dense.weight`` ``[hidden, hidden]`` and ``dense.bias``. A leading batch axis gives each row its own.
        activation: between the family's two projections.
        dropout: applied before each projection; None outside training.

    Returns:
        ``[batch, outputs]``, or ``[batch, seq, outputs]``.
    """
    if state.dim() == 2:
        return logits_of(state.unsqueeze(1), head, activation, dropout).squeeze(1)
    drop = dropout or (lambda value: value)
    hidden = drop(state)
    if "dense.weight" in head:
        hidden = drop(ACTIVATIONS[activation](project(hidden, head["dense.weight"], head["dense.bias"])))
    return project(hidden, head["weight"], head["bias"])


class Head(nn.Module):
    """The trainable head of one task."""

    def __init__(self, kind: str, hidden: int, outputs: int, dense: Mapping[str, Tensor] | None = None) -> None:
        """``dense`` is the backbone's own pretrained pooler, the start of a family's own head where there is one."""
        super().__init__()
        self.out = nn.Linear(hidden, outputs)
        nn.init.normal_(self.out.weight, std=0.02)
        nn.init.zeros_(self.out.bias)
        self.dense = nn.Linear(hidden, hidden) if kind == "own" else None
        if self.dense is not None and dense is not None:
            with torch.no_grad():
                self.dense.weight.copy_(dense["weight"])
                self.dense.bias.copy_(dense["bias"])

    def tensors(self) -> dict[str, Tensor]:
        """Tensors by the names of the task pack's ``head`` group."""
        own = {} if self.dense is None else {"dense.weight": self.dense.weight, "dense.bias": self.dense.bias}
        return {"weight": self.out.weight, "bias": self.out.bias, **own}
