"""Makes a backbone use a prototype, by forward hooks: its code and its weights stay as they are."""

import itertools
import types
from collections import defaultdict
from collections.abc import Callable, Iterator, Mapping
from functools import partial
from typing import Any, cast

import torch
from torch import Tensor, nn
from torch.nn import functional
from transformers import AttentionInterface, PreTrainedModel
from transformers.masking_utils import AttentionMaskInterface, sdpa_mask
from transformers.pytorch_utils import Conv1D

from propetl.errors import ConfigurationError
from propetl.families import Family, Projection, Stack, SubLayer
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
    """Hooks ``config.method`` into every layer of ``model``; a prototype's slots count over its stacks in their order.

    Args:
        model: the backbone, as :func:`propetl.backbone.load_backbone` loads it.
        family: where things are in it.
        config: the method.
        current: called at every slot for the weights to use.
        merge_lora: compute LoRA as part of the projection's matrix instead of beside it.

    Raises:
        ConfigurationError: a prefix where nothing here knows how the family attends, or LoRA in a matrix that is not
            known here.
    """
    slots_of: dict[str, Iterator[int]] = defaultdict(itertools.count)
    forward = _own_attention(family) if config.method == "prefix" else None
    for place, stack in enumerate(family.stacks):
        prototype = config.prototype_of(place)
        slots, here = slots_of[prototype], _only(prototype, current)
        layers = model.get_submodule(stack.layers)
        assert isinstance(layers, nn.ModuleList)
        for layer in layers:
            if config.method == "adapter":
                _attach_adapters(layer, stack, slots, config, here)
            elif config.method == "lora":
                _attach_lora(layer, stack, slots, config, here, merge_lora)
            elif config.method == "prefix":
                _attach_prefix(layer, stack, slots, forward, here)
    if config.method == "prefix" and family.attention_interface:
        model.set_attn_implementation(PREFIX_ATTENTION)


def _only(prototype: str, current: Current) -> Current:
    """``current`` with the weights of one prototype alone; as it is where there is only one."""
    if not prototype:
        return current

    def weights() -> EffectiveWeights | None:
        every = current()
        return None if every is None else every.of(prototype)

    return weights


def _attach_adapters(
    layer: nn.Module, stack: Stack, slots: Iterator[int], config: PrototypeConfig, current: Current
) -> None:
    sub_layers: dict[str, SubLayer] = {"attention": stack.attention, "ffn": stack.ffn}
    for site in config.sites:
        _attach_adapter(layer, sub_layers[site], next(slots), config, current)


def _attach_adapter(layer: nn.Module, place: SubLayer, slot: int, config: PrototypeConfig, current: Current) -> None:
    read = adapter_input(layer, place, config)
    residual: list[Tensor] = []

    def remember_residual(module: nn.Module, arguments: tuple[Any, ...], keywords: dict[str, Any]) -> None:
        values = [*arguments, *keywords.values()]
        residual[:] = [values[place.residual_argument]]

    def adapt(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights, added_next = current(), residual.pop()
        if weights is None:
            return output
        return adapter.adapted(output, read(output, added_next), weights, slot, config.activation)

    layer.get_submodule(place.residual).register_forward_pre_hook(remember_residual, with_kwargs=True)
    layer.get_submodule(place.output).register_forward_hook(adapt)


def adapter_input(layer: nn.Module, place: SubLayer, config: PrototypeConfig) -> Callable[[Tensor, Tensor], Tensor]:
    """What the adapter reads at ``place``, from ``h`` and the residual ``r``, as in the reference implementation.

    Post-norm layers: ``LN(h + r)``. Pre-norm layers (its T5): ``h + r`` for an adapter after the FFN alone
    (Pfeiffer), ``h`` for one after attention and FFN (Houlsby).
    """
    if place.layer_norm is not None:
        layer_norm = layer.get_submodule(place.layer_norm)
        return lambda hidden, residual: cast(Tensor, layer_norm(hidden + residual))
    if config.sites == ("ffn",):
        return lambda hidden, residual: hidden + residual
    return lambda hidden, residual: hidden


def _attach_lora(
    layer: nn.Module, stack: Stack, slots: Iterator[int], config: PrototypeConfig, current: Current, merge: bool
) -> None:
    for attention in stack.attentions:
        slot = next(slots)
        for path, places in attention.modules(config.targets).items():
            if merge:
                _merge_lora(layer.get_submodule(path), path, places, slot, config.lora_scale, current)
            else:
                _add_lora(layer.get_submodule(path), places, slot, config.lora_scale, current)


def _add_lora(
    module: nn.Module, places: Mapping[str, Projection], slot: int, scale: float, current: Current
) -> None:
    """Puts the branch of each target beside the module that makes them."""

    def add_branches(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights = current()
        if weights is None:
            return output
        for target, place in places.items():
            output = output + lora.branch(arguments[0], weights, target, slot, scale, place)
        return output

    module.register_forward_hook(add_branches)


def _merge_lora(
    module: nn.Module, path: str, places: Mapping[str, Projection], slot: int, scale: float, current: Current
) -> None:
    """Adds the pairs of all targets to the one matrix of the module that makes them."""
    _matrix_of(module, path)  # refused now, and not in the middle of a trace

    def project_merged(module: nn.Module, arguments: tuple[Any, ...], output: Tensor) -> Tensor:
        weights = current()
        if weights is None:
            return output
        merged = _matrix_of(module, path)
        for target, place in places.items():
            merged = merged + lora.delta(weights, target, slot, scale, place)
        return functional.linear(arguments[0], merged, cast(Tensor | None, module.bias))

    module.register_forward_hook(project_merged)


def _matrix_of(module: nn.Module, path: str) -> Tensor:
    """The matrix of a projection, ``[out, in]``; GPT-2's ``Conv1D`` holds it the other way round."""
    if isinstance(module, nn.Linear):
        return module.weight
    if isinstance(module, Conv1D):
        return module.weight.T
    raise ConfigurationError(
        f"LoRA cannot be merged into {path}, a {type(module).__name__}: its matrix is not known here; "
        "leave --merge-lora out"
    )


def _attach_prefix(
    layer: nn.Module, stack: Stack, slots: Iterator[int], forward: Callable[..., Any] | None, current: Current
) -> None:
    for attention in stack.attentions:
        module = layer.get_submodule(attention.module)
        # A plain attribute, read by _attend.
        module.propetl_prefix = partial(_prefix_now, next(slots), current)  # type: ignore[assignment]
        if forward is not None:
            module.forward = types.MethodType(forward, module)


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
        parts = prefix.keys_and_values(here, heads=here.shape[-1] // 2 // key.shape[-1])
    groups = getattr(module, "num_key_value_groups", 1)
    return prefix.attend(query, key, value, parts, mask, scale, dropout, groups)


def _prefix_mask(**arguments: Any) -> Tensor | None:
    """transformers' mask, never left out for a causal one: with a prefix, "causal" says less than the mask."""
    return sdpa_mask(**{**arguments, "allow_is_causal_skip": False})


AttentionInterface.register(PREFIX_ATTENTION, _prefix_attention)
AttentionMaskInterface.register(PREFIX_ATTENTION, _prefix_mask)
