"""Lets the attentions of a backbone read a prefix before their own keys and values."""

import types
from collections.abc import Callable
from functools import partial
from typing import Any

import torch
from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from propetl.errors import ConfigurationError
from propetl.families import Family
from propetl.prototypes.layer import Current, HookedLayer, MethodLayer
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.prefix.attention import attend, keys_and_values
from propetl.prototypes.prefix.reparametrisation import OwnPrefix, PrefixPrototype
from propetl.prototypes.prototype import Prototype
from propetl.prototypes.task import TaskPart

PREFIX_ATTENTION = "propetl_prefix"


class PrefixLayer(MethodLayer):
    """Replaces how a backbone attends; a bare backbone attends as before."""

    def attach(self, layer: HookedLayer) -> None:
        """Tells each attention where its prefix is.

        Raises:
            ConfigurationError: nothing here knows how the family attends.
        """
        forward = _own_attention(layer.family)
        for attention, slot in zip(layer.stack.attentions, layer.slots, strict=True):
            module = layer.module.get_submodule(attention.module)
            # A plain attribute, read by _attend.
            module.propetl_prefix = partial(_prefix_now, slot, layer.current)  # type: ignore[assignment]
            if forward is not None:
                module.forward = types.MethodType(forward, module)

    def finish(self, model: PreTrainedModel, family: Family) -> None:
        """Makes the model attend through :data:`PREFIX_ATTENTION`."""
        if family.attention_interface:
            model.set_attn_implementation(PREFIX_ATTENTION)

    def new_prototype(self, layout: TaskLayout) -> Prototype:
        """Prefixes that MLPs make."""
        return PrefixPrototype(layout)

    def new_weights(self, layout: TaskLayout) -> TaskPart:
        """A task's own prefixes, made by an MLP."""
        return OwnPrefix(layout)


def _prefix_now(slot: int, current: Current) -> Tensor | None:
    """The prefix at ``slot``, ``[P, 2 * width]``, with a leading batch axis where rows have their own."""
    weights = current()
    return None if weights is None else weights.at("prefix", slot)


def _prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: ``[batch, heads, seq, size]`` to ``[batch, seq, heads, size]``.

    Keys and values come from the cache where there is one: a prefix is put before them here, behind it, so that
    it is in no cache.
    """
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    mask = attention_mask if position_bias is None else _biased(attention_mask, position_bias)
    attended = _attend(module, query, key, value, mask, scale, dropout)
    return attended.transpose(1, 2).contiguous(), None


def _biased(mask: Tensor | None, position_bias: Tensor) -> Tensor:
    """T5's bias on the products, and a bool mask (True = attend), as one additive mask."""
    if mask is None:
        return position_bias
    return torch.where(mask, position_bias, torch.finfo(position_bias.dtype).min)


def _mpnet_attention(
    self: Any,
    hidden_states: Tensor,
    attention_mask: Tensor | None = None,
    position_bias: Tensor | None = None,
    **_: Any,
) -> tuple[Tensor]:
    """MPNet attends inside its own module, with relative positions as a bias on the products."""
    if self.propetl_prefix() is None:
        bare: tuple[Tensor] = type(self).forward(self, hidden_states, attention_mask, position_bias)
        return bare
    split = (*hidden_states.shape[:-1], -1, self.attention_head_size)
    query, key, value = (project(hidden_states).view(split).transpose(1, 2) for project in (self.q, self.k, self.v))
    bias = position_bias
    if attention_mask is not None:
        bias = attention_mask if bias is None else bias + attention_mask
    dropout = self.dropout.p if self.training else 0.0
    attended = _attend(self, query, key, value, bias, self.attention_head_size**-0.5, dropout)
    return (self.o(attended.transpose(1, 2).flatten(2)),)


_OWN_ATTENTION: dict[str, Callable[..., Any]] = {"mpnet": _mpnet_attention}
"""By family, what attends with a prefix where transformers' attention interface does not."""


def _own_attention(family: Family) -> Callable[..., Any] | None:
    """The replacement for ``forward`` of the attention modules of ``family``; None where the interface serves it."""
    if family.attention_interface:
        return None
    if family.name not in _OWN_ATTENTION:
        known = ", ".join(_OWN_ATTENTION)
        raise ConfigurationError(
            f"prefix: {family.name} does not attend through transformers' attention interface, and only {known} has "
            "an attention of its own here; choose method adapter or lora (docs/adding-a-family.md)"
        )
    return _OWN_ATTENTION[family.name]


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    here = module.propetl_prefix()
    if here is None:
        parts = (key[:, :, :0], value[:, :, :0])
    else:
        parts = keys_and_values(here, heads=here.shape[-1] // 2 // key.shape[-1])
    groups = getattr(module, "num_key_value_groups", 1)
    return attend(query, key, value, parts, mask, scale, dropout, groups)


def _prefix_mask(**arguments: Any) -> Tensor | None:
    """transformers' mask, never left out for a causal one: with a prefix, "causal" says less than the mask."""
    return sdpa_mask(**{**arguments, "allow_is_causal_skip": False})


AttentionInterface.register(PREFIX_ATTENTION, _prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, _prefix_mask)
