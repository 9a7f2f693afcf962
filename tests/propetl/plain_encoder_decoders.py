"""T5, BART and the prototypes' equations written out plainly, in float64, as the oracle for the hooks.

Nothing here calls transformers' layers or the project's prototypes; of the backbone only its weights. No cache: the
decoder reads the whole answer so far.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Extra:
    """What a method adds to one layer; float64 tensors, empty for the bare backbone.

    Attributes:
        adapters: by sub-layer (``attention``, ``ffn``): down weight and bias, up weight and bias.
        activation: of the adapters.
        with_residual: whether those of pre-norm layers read ``h + r`` or ``h``.
        lora: by attention (``self``, ``cross``) and projection: A ``[r, h]``, B ``[q, r]`` and the scale.
        prefix: by attention: ``[P, 2 q]``.
    """

    adapters: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    activation: Any = torch.relu
    with_residual: bool = True
    lora: dict[str, dict[str, tuple[Tensor, Tensor, float]]] = field(default_factory=dict)
    prefix: dict[str, Tensor] = field(default_factory=dict)


class PlainEncoderDecoder:
    """What both have in common: two stacks, attention, and what a method adds to a layer."""

    def __init__(self, model):
        self.config = model.config
        self.weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}

    def __call__(self, inputs, decoder_ids, encoder_extras, decoder_extras):
        """Logits float64 ``[batch, target, vocabulary]``; one :class:`Extra` for each layer of a stack."""
        real = inputs["attention_mask"].bool()[:, None, None, :]  # [batch, 1, 1, seq]
        source = self.stack("encoder", inputs["input_ids"], real, encoder_extras)
        length = decoder_ids.shape[1]
        causal = torch.ones(length, length).tril().bool()
        return self.logits(self.stack("decoder", decoder_ids, causal, decoder_extras, source, real))

    def adapted(self, site, h, x, extra):
        """``up(act(down(x))) + h``."""
        if site not in extra.adapters:
            return h
        down, down_bias, up, up_bias = extra.adapters[site]
        return extra.activation(x @ down.T + down_bias) @ up.T + up_bias + h

    def projections(self, paths, heads, x, other, extra, kind):
        """Query of ``x``, key and value of ``other``, with what a LoRA adds: ``[batch, heads, seq, head size]``."""
        lora = extra.lora.get(kind, {})
        for target, path in zip(("query", "key", "value"), paths, strict=True):
            made = self.linear(path, x if target == "query" else other)
            if target in lora:
                a, b, scale = lora[target]
                made = made + scale * ((x if target == "query" else other) @ a.T @ b.T)
            yield made.unflatten(-1, (heads, -1)).transpose(1, 2)

    def mixed(self, q, k, v, mask, bias, extra, kind):
        """Softmax attention, ``[batch, seq, width]``; a prefix is always attended to, and has no position."""
        products = (q @ k.transpose(-1, -2) + bias).masked_fill(~mask, -1e30)
        if kind in extra.prefix:
            heads = q.shape[1]
            keys, values = (
                part.unflatten(-1, (heads, -1)).transpose(0, 1)[None] for part in extra.prefix[kind].chunk(2, dim=-1)
            )
            products = torch.cat([q @ keys.transpose(-1, -2), products], dim=-1)
            v = torch.cat([values.expand(len(v), -1, -1, -1), v], dim=2)
        return (torch.softmax(products, dim=-1) @ v).transpose(1, 2).flatten(2)

    def linear(self, at, x):
        """``W x``, and ``+ b`` where there is one."""
        return x @ self.weights[f"{at}.weight"].T + self.weights.get(f"{at}.bias", 0.0)


class PlainT5(PlainEncoderDecoder):
    """T5, also Flan-T5 and mT5: pre-norm layers, relative positions, attention without a scale."""

    def logits(self, state):
        # The first T5s scale before their head, which is the embedding; T5 1.1, Flan-T5 and mT5 have one of their own.
        scale = self.config.d_model**-0.5 if getattr(self.config, "scale_decoder_outputs", False) else 1.0
        return self.linear("lm_head", state * scale)

    def stack(self, name, ids, mask, extras, source=None, source_mask=None):
        """All layers of one stack: float64 ``[batch, seq, hidden]``."""
        x = self.weights["shared.weight"][ids]
        bias = self.position_bias(name, ids.shape[1])
        last = 1 if source is None else 2
        for index, extra in enumerate(extras):
            at = f"{name}.block.{index}.layer"
            read = self.norm(f"{at}.0.layer_norm", x)
            h = self.attend(f"{at}.0.SelfAttention", read, read, mask, bias, extra, "self")
            x = x + self.residual("attention", h, x, extra)
            if source is not None:
                read = self.norm(f"{at}.1.layer_norm", x)
                x = x + self.attend(f"{at}.1.EncDecAttention", read, source, source_mask, 0.0, extra, "cross")
            h = self.ffn(f"{at}.{last}.DenseReluDense", self.norm(f"{at}.{last}.layer_norm", x))
            x = x + self.residual("ffn", h, x, extra)
        return self.norm(f"{name}.final_layer_norm", x)

    def residual(self, site, h, r, extra):
        """An adapter reads ``h + r`` or ``h``."""
        return self.adapted(site, h, h + r if extra.with_residual else h, extra)

    def attend(self, at, x, other, mask, bias, extra, kind):
        paths = (f"{at}.q", f"{at}.k", f"{at}.v")
        q, k, v = self.projections(paths, self.config.num_heads, x, other, extra, kind)
        return self.linear(f"{at}.o", self.mixed(q, k, v, mask, bias, extra, kind))

    def ffn(self, at, x):
        if not self.config.is_gated_act:
            return self.linear(f"{at}.wo", self.linear(f"{at}.wi", x).clamp(min=0))
        return self.linear(f"{at}.wo", gelu_new(self.linear(f"{at}.wi_0", x)) * self.linear(f"{at}.wi_1", x))

    def norm(self, at, x):
        size = (x.square().mean(-1, keepdim=True) + self.config.layer_norm_epsilon).sqrt()
        return x / size * self.weights[f"{at}.weight"]

    def position_bias(self, stack, length):
        """Of queries (rows) on keys (columns): ``[1, heads, length, length]``; the first layer's, for all layers."""
        table = self.weights[f"{stack}.block.0.layer.0.SelfAttention.relative_attention_bias.weight"]
        buckets = [[self.bucket(key - query, stack == "encoder") for key in range(length)] for query in range(length)]
        return table[torch.tensor(buckets)].permute(2, 0, 1)[None]

    def bucket(self, distance, both_ways):
        """Near distances have buckets of their own, further ones share them by their logarithm."""
        count, first = self.config.relative_attention_num_buckets, 0
        if both_ways:
            count //= 2
            first, distance = (count if distance > 0 else 0), abs(distance)
        else:
            distance = max(0, -distance)
        if distance < count // 2:
            return first + distance
        share = math.log(distance / (count // 2)) / math.log(self.config.relative_attention_max_distance / (count // 2))
        return first + min(count - 1, count // 2 + int(share * (count - count // 2)))


class PlainBart(PlainEncoderDecoder):
    """BART: post-norm layers, learned positions; an adapter reads ``LN(h + r)``."""

    def logits(self, state):
        return self.linear("lm_head", state) + self.weights["final_logits_bias"]

    def stack(self, name, ids, mask, extras, source=None, source_mask=None):
        """All layers of one stack: float64 ``[batch, seq, hidden]``."""
        at = f"model.{name}"
        heads = getattr(self.config, f"{name}_attention_heads")
        places = self.weights[f"{at}.embed_positions.weight"][2 : 2 + ids.shape[1]]  # two rows are for padding
        x = self.norm(f"{at}.layernorm_embedding", self.weights["model.shared.weight"][ids] + places)
        for index, extra in enumerate(extras):
            layer = f"{at}.layers.{index}"
            h = self.attend(f"{layer}.self_attn", heads, x, x, mask, extra, "self")
            x = self.residual("attention", f"{layer}.self_attn_layer_norm", h, x, extra)
            if source is not None:
                h = self.attend(f"{layer}.encoder_attn", heads, x, source, source_mask, extra, "cross")
                x = self.norm(f"{layer}.encoder_attn_layer_norm", h + x)
            h = self.linear(f"{layer}.fc2", F.gelu(self.linear(f"{layer}.fc1", x)))
            x = self.residual("ffn", f"{layer}.final_layer_norm", h, x, extra)
        return x

    def residual(self, site, norm, h, r, extra):
        return self.norm(norm, self.adapted(site, h, self.norm(norm, h + r), extra) + r)

    def attend(self, at, heads, x, other, mask, extra, kind):
        q, k, v = self.projections([f"{at}.{name}_proj" for name in "qkv"], heads, x, other, extra, kind)
        return self.linear(f"{at}.out_proj", self.mixed(q / q.shape[-1] ** 0.5, k, v, mask, 0.0, extra, kind))

    def norm(self, at, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]


def gelu_new(x):
    """GELU by tanh (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
