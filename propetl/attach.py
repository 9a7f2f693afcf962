"""Makes a backbone use a prototype, by forward hooks: its code and its weights stay as they are."""

import types
from collections.abc import Callable
from typing import Any

from torch import Tensor, nn
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask

from propetl.families import Family, SubLayer
from propetl.prototypes import adapter, lora, prefix
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.spec import PrototypeConfig

PREFIX_ATTENTION = "propetl_prefix"

Current = Callable[[], EffectiveWeights | None]
"""Gives the weights of the task that runs now; None lets the backbone run bare."""


def attach(
    model: PreTrainedModel,
    family: Family,
    config: PrototypeConfig,
    current: Current,
    *,
    merge_lora: bool = False,
) -> None:
    """Hooks ``config.method`` into every layer of ``model``.

    Args:
        model: the backbone's base model.
        family: where things are in it.
        config: the method.
        current: called at every slot for the weights to use.
        merge_lora: compute LoRA as part of the projection's matrix instead of beside it.
    """
    layers = model.get_submodule(family.layers)
    assert isinstance(layers, nn.ModuleList)
    for index, layer in enumerate(layers):
        if config.method == "adapter":
            _attach_adapters(layer, index, family, config, current)
        elif config.method == "lora":
            _attach_lora(layer, index, family, config, current, merge_lora)
        elif config.method == "prefix":
            _attach_prefix(layer, index, family, model, current)


def _attach_adapters(layer: nn.Module, index: int, family: Family, config: PrototypeConfig, current: Current) -> None:
    sub_layers: dict[str, SubLayer] = {"attention": family.attention, "ffn": family.ffn}
    for position, site in enumerate(config.sites):
        slot = index * config.sites_per_layer + position
        _attach_adapter(layer, sub_layers[site], slot, config.activation, current)


def _attach_adapter(layer: nn.Module, place: SubLayer, slot: int, activation: str, current: Current) -> None:
    layer_norm = layer.get_submodule(place.layer_norm)
    residual: list[Tensor] = []

    def remember_residual(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        values = [*arguments, *keywords.values()]
        residual[:] = [values[place.residual_argument]]

    def adapt(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights, added_next = current(), residual.pop()
        if weights is None:
            return output
        return adapter.adapted(output, added_next, layer_norm, weights, slot, activation)

    layer.get_submodule(place.residual).register_forward_pre_hook(remember_residual, with_kwargs=True)
    layer.get_submodule(place.output).register_forward_hook(adapt)


def _attach_lora(
    layer: nn.Module, slot: int, family: Family, config: PrototypeConfig, current: Current, merge: bool
) -> None:
    for target in config.targets:
        _attach_lora_pair(
            layer.get_submodule(family.projections[target]), target, slot, config.lora_scale, current, merge
        )


def _attach_lora_pair(
    projection: nn.Module, target: str, slot: int, scale: float, current: Current, merge: bool
) -> None:
    def add_branch(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights = current()
        if weights is None:
            return output
        if merge and isinstance(module, nn.Linear):
            return lora.merged(arguments[0], module, weights, target, slot, scale)
        return output + lora.branch(arguments[0], weights, target, slot, scale)

    projection.register_forward_hook(add_branch)


def _attach_prefix(layer: nn.Module, slot: int, family: Family, model: PreTrainedModel, current: Current) -> None:
    attention = layer.get_submodule(family.self_attention)
    heads = model.config.num_attention_heads

    def prefix_now() -> tuple[Tensor, Tensor] | None:
        weights = current()
        return None if weights is None else prefix.keys_and_values(weights.at("prefix", slot), heads)

    attention.propetl_prefix = prefix_now  # type: ignore[assignment]  # a plain attribute, read by the two below
    if family.attention_interface:
        model.config._attn_implementation = PREFIX_ATTENTION
    else:
        attention.forward = types.MethodType(_mpnet_attention, attention)


def _prefix_attention(
    module: nn.Module,
    query: Tensor,
    key: Tensor,
    value: Tensor,
    attention_mask: Tensor | None,
    dropout: float = 0.0,
    scaling: float | None = None,
    **_: Any,
) -> tuple[Tensor, None]:
    """transformers' attention interface: ``[batch, heads, seq, size]`` to ``[batch, seq, heads, size]``."""
    scale = query.shape[-1] ** -0.5 if scaling is None else scaling
    attended = _attend(module, query, key, value, attention_mask, scale, dropout)
    return attended.transpose(1, 2).contiguous(), None


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


def _attend(
    module: Any, query: Tensor, key: Tensor, value: Tensor, mask: Tensor | None, scale: float, dropout: float
) -> Tensor:
    here = module.propetl_prefix()
    if here is None:
        here = (key[:, :, :0], value[:, :, :0])
    return prefix.attend(query, key, value, here, mask, scale, dropout)


AttentionInterface.register(PREFIX_ATTENTION, _prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, sdpa_mask)
