"""T5 and the prototypes' equations written out plainly, in float64, as the oracle for the hooks.

Nothing here calls transformers' layers or the project's prototypes; of the backbone only its weights. No cache: the
decoder reads the whole answer so far.
"""

import math
from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor


@dataclass(frozen=True)
class Extra:
    """What a method adds to one layer; float64 tensors, empty for the bare backbone.

    Attributes:
        adapters: by sub-layer (``attention``, ``ffn``): down weight and bias, up weight and bias.
        activation: of the adapters.
        with_residual: whether they read ``h + r`` or ``h``.
        lora: by attention (``self``, ``cross``) and projection: A ``[r, h]``, B ``[q, r]`` and the scale.
        prefix: by attention: ``[P, 2 q]``.
    """

    adapters: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    activation: Any = torch.relu
    with_residual: bool = True
    lora: dict[str, dict[str, tuple[Tensor, Tensor, float]]] = field(default_factory=dict)
    prefix: dict[str, Tensor] = field(default_factory=dict)


class PlainT5:
    """T5 of transformers, from its weights alone."""

    def __init__(self, model):
        self.config = model.config
        self.weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}

    def __call__(self, inputs, decoder_ids, encoder_extras, decoder_extras):
        """Logits float64 ``[batch, target, vocabulary]``."""
        real = inputs["attention_mask"].bool()[:, None, None, :]  # [batch, 1, 1, seq]
        source = self.stack("encoder", inputs["input_ids"], real, encoder_extras)
        length = decoder_ids.shape[1]
        causal = torch.ones(length, length).tril().bool()
        state = self.stack("decoder", decoder_ids, causal, decoder_extras, source, real)
        # The first T5s scale before their head, which is the embedding; T5 1.1, Flan-T5 and mT5 have one of their own.
        scale = self.config.d_model**-0.5 if getattr(self.config, "scale_decoder_outputs", False) else 1.0
        return state * scale @ self.weights["lm_head.weight"].T

    def stack(self, name, ids, mask, extras, source=None, source_mask=None):
        """All layers of one stack: float64 ``[batch, seq, hidden]``."""
        x = self.weights["shared.weight"][ids]
        bias = self.position_bias(name, ids.shape[1])
        last = 1 if source is None else 2
        for index, extra in enumerate(extras):
            at = f"{name}.block.{index}.layer"
            h = self.attend(f"{at}.0.SelfAttention", self.norm(f"{at}.0", x), None, mask, bias, extra, "self")
            x = x + self.adapted("attention", h, x, extra)
            if source is not None:
                read = self.norm(f"{at}.1", x)
                x = x + self.attend(f"{at}.1.EncDecAttention", read, source, source_mask, 0.0, extra, "cross")
            h = self.ffn(f"{at}.{last}.DenseReluDense", self.norm(f"{at}.{last}", x))
            x = x + self.adapted("ffn", h, x, extra)
        return self.rms(x, f"{name}.final_layer_norm.weight")

    def adapted(self, site, h, r, extra):
        """``up(act(down(x))) + h`` with ``x = h + r`` or ``x = h``."""
        if site not in extra.adapters:
            return h
        down, down_bias, up, up_bias = extra.adapters[site]
        x = h + r if extra.with_residual else h
        return extra.activation(x @ down.T + down_bias) @ up.T + up_bias + h

    def attend(self, at, x, source, mask, bias, extra, kind):
        """Softmax attention without a scale; a prefix is always attended to, and has no position."""
        lora = extra.lora.get(kind, {})
        other = x if source is None else source
        q = self.split(self.projected(f"{at}.q", x, lora.get("query")))
        k = self.split(self.projected(f"{at}.k", other, lora.get("key")))
        v = self.split(self.projected(f"{at}.v", other, lora.get("value")))
        products = q @ k.transpose(-1, -2) + bias
        products = products.masked_fill(~mask, -1e30)
        if kind in extra.prefix:
            keys, values = (self.split(part[None]) for part in extra.prefix[kind].chunk(2, dim=-1))
            products = torch.cat([q @ keys.transpose(-1, -2), products], dim=-1)
            v = torch.cat([values.expand(len(v), -1, -1, -1), v], dim=2)
        return (torch.softmax(products, dim=-1) @ v).transpose(1, 2).flatten(2) @ self.weights[f"{at}.o.weight"].T

    def projected(self, at, x, lora):
        """``(W + s B A) x``."""
        weight = self.weights[f"{at}.weight"]
        if lora is not None:
            a, b, scale = lora
            weight = weight + scale * (b @ a)
        return x @ weight.T

    def split(self, x):
        """``[batch, seq, width]`` to ``[batch, heads, seq, head size]``."""
        return x.unflatten(-1, (self.config.num_heads, -1)).transpose(1, 2)

    def ffn(self, at, x):
        if not self.config.is_gated_act:
            return (x @ self.weights[f"{at}.wi.weight"].T).clamp(min=0) @ self.weights[f"{at}.wo.weight"].T
        gate = gelu_new(x @ self.weights[f"{at}.wi_0.weight"].T)
        return (gate * (x @ self.weights[f"{at}.wi_1.weight"].T)) @ self.weights[f"{at}.wo.weight"].T

    def norm(self, at, x):
        return self.rms(x, f"{at}.layer_norm.weight")

    def rms(self, x, name):
        return x / (x.square().mean(-1, keepdim=True) + self.config.layer_norm_epsilon).sqrt() * self.weights[name]

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


def gelu_new(x):
    """GELU by tanh (Hendrycks and Gimpel 2016)."""
    return 0.5 * x * (1 + torch.tanh(math.sqrt(2 / math.pi) * (x + 0.044715 * x**3)))
