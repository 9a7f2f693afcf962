"""The encoders and the prototypes' equations written out plainly, in float64, as the oracle for the hooks.

Nothing here calls transformers' layers or the project's prototypes; of the backbone only its weights,
and of a forward pass only the output of its embeddings.
"""

from dataclasses import dataclass, field
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

_BERT = {
    "query": "attention.self.query",
    "key": "attention.self.key",
    "value": "attention.self.value",
    "mix": "attention.output.dense",
    "attention norm": "attention.output.LayerNorm",
    "enter": "intermediate.dense",
    "leave": "output.dense",
    "ffn norm": "output.LayerNorm",
}
_DISTILBERT = {
    "query": "attention.q_lin",
    "key": "attention.k_lin",
    "value": "attention.v_lin",
    "mix": "attention.out_lin",
    "attention norm": "sa_layer_norm",
    "enter": "ffn.lin1",
    "leave": "ffn.lin2",
    "ffn norm": "output_layer_norm",
}
_MPNET = _BERT | {
    "query": "attention.attn.q",
    "key": "attention.attn.k",
    "value": "attention.attn.v",
    "mix": "attention.attn.o",
    "attention norm": "attention.LayerNorm",
}
NAMES = {"distilbert": _DISTILBERT, "mpnet": _MPNET}


@dataclass(frozen=True)
class Extra:
    """What a method adds to one layer; float64 tensors, empty for the bare backbone.

    Attributes:
        adapters: by sub-layer (``attention``, ``ffn``): down weight and bias, up weight and bias.
        activation: of the adapters.
        lora: by projection: A ``[r, h]``, B ``[h, r]`` and the scale.
        prefix: ``[P, 2 h]``.
    """

    adapters: dict[str, tuple[Tensor, ...]] = field(default_factory=dict)
    activation: Any = torch.relu
    lora: dict[str, tuple[Tensor, Tensor, float]] = field(default_factory=dict)
    prefix: Tensor | None = None


class PlainEncoder:
    """The layers of a backbone of transformers, from its weights alone."""

    def __init__(self, model, family):
        config = model.config
        self.names = NAMES.get(family, _BERT)
        self.layers = "transformer.layer" if family == "distilbert" else "encoder.layer"
        self.heads = config.num_attention_heads
        self.depth = config.num_hidden_layers
        self.epsilon = 1e-12 if family == "distilbert" else config.layer_norm_eps
        self.weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}
        self.model, self.family = model, family

    def embedded(self, inputs):
        """Output of the embeddings, float64 ``[batch, seq, hidden]``."""
        with torch.no_grad():
            return self.model(**inputs, output_hidden_states=True).hidden_states[0].double()

    def __call__(self, inputs, extras):
        """Last hidden states, with one :class:`Extra` for each layer."""
        hidden = self.embedded(inputs)
        bias = (1.0 - inputs["attention_mask"].double())[:, None, None, :] * -1e30  # [batch, 1, 1, seq]
        if self.family == "mpnet":
            bias = bias + self.model.encoder.compute_position_bias(hidden).detach().double()
        for layer in range(self.depth):
            hidden = self.layer(layer, hidden, bias, extras[layer])
        return hidden

    def layer(self, index, x, bias, extra):
        """One layer: ``x`` float64 ``[batch, seq, hidden]``."""
        h = self.linear(index, "mix", self.attend(index, x, bias, extra))
        a = self.norm(index, "attention norm", self.adapted(index, "attention", h, x, extra) + x)
        h = self.linear(index, "leave", F.gelu(self.linear(index, "enter", a)))
        return self.norm(index, "ffn norm", self.adapted(index, "ffn", h, a, extra) + a)

    def adapted(self, index, site, h, r, extra):
        """With ``x = LN(h + r)``: ``up(act(down(x))) + h``; the caller then takes ``LN(. + r)``."""
        if site not in extra.adapters:
            return h
        down, down_bias, up, up_bias = extra.adapters[site]
        x = self.norm(index, f"{site} norm", h + r)
        return extra.activation(x @ down.T + down_bias) @ up.T + up_bias + h

    def attend(self, index, x, bias, extra):
        """Softmax attention, written out; a prefix is put before keys and values and always attended to."""
        q, k, v = (self.split(self.projected(index, kind, x, extra)) for kind in ("query", "key", "value"))
        if extra.prefix is not None:
            width = x.shape[-1]
            k, v = (
                torch.cat([self.split(part.expand(len(x), -1, -1)), text], dim=2)
                for part, text in ((extra.prefix[:, :width], k), (extra.prefix[:, width:], v))
            )
            bias = torch.cat([torch.zeros(*bias.shape[:-1], len(extra.prefix), dtype=bias.dtype), bias], dim=-1)
        weights = torch.softmax(q @ k.transpose(-1, -2) / q.shape[-1] ** 0.5 + bias, dim=-1)
        return (weights @ v).transpose(1, 2).flatten(2)

    def split(self, x):
        """``[batch, seq, hidden]`` to ``[batch, heads, seq, head size]``."""
        return x.unflatten(-1, (self.heads, -1)).transpose(1, 2)

    def projected(self, index, kind, x, extra):
        """``(W + s B A) x + b``."""
        weight, bias = self.weight(index, kind, "weight"), self.weight(index, kind, "bias")
        if kind in extra.lora:
            a, b, scale = extra.lora[kind]
            weight = weight + scale * (b @ a)
        return x @ weight.T + bias

    def linear(self, index, kind, x):
        return x @ self.weight(index, kind, "weight").T + self.weight(index, kind, "bias")

    def norm(self, index, kind, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + self.epsilon).sqrt()
        return scaled * self.weight(index, kind, "weight") + self.weight(index, kind, "bias")

    def weight(self, index, kind, part):
        return self.weights[f"{self.layers}.{index}.{self.names[kind]}.{part}"]
