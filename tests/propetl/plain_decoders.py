"""GPT-2, Llama and the prototypes' equations written out plainly, in float64, for one text without padding.

Nothing here calls transformers' layers or the project's prototypes; of the backbone only its weights.
"""

import torch

from tests.propetl.plain_encoder_decoders import gelu_new


class PlainDecoder:
    """What both have in common: pre-norm layers, causal attention."""

    layers: str

    def __init__(self, model):
        self.config = model.config
        self.weights = {name: tensor.detach().double() for name, tensor in model.state_dict().items()}

    def __call__(self, ids, extras):
        """Last hidden states float64 ``[seq, hidden]`` of one text ``[seq]``, one :class:`Extra` for each layer."""
        x = self.embedded(ids)
        for index, extra in enumerate(extras):
            at = f"{self.layers}.{index}"
            h = self.attend(at, self.norm(f"{at}.{self.norms[0]}", x), extra)
            x = x + self.adapted("attention", h, x, extra)
            h = self.ffn(at, self.norm(f"{at}.{self.norms[1]}", x))
            x = x + self.adapted("ffn", h, x, extra)
        return self.norm(self.last_norm, x)

    def logits(self, hidden):
        return hidden @ self.weights["lm_head.weight"].T

    def adapted(self, site, h, r, extra):
        """``up(act(down(x))) + h`` with ``x = h + r`` or ``x = h``."""
        if site not in extra.adapters:
            return h
        down, down_bias, up, up_bias = extra.adapters[site]
        x = h + r if extra.with_residual else h
        return extra.activation(x @ down.T + down_bias) @ up.T + up_bias + h

    def mixed(self, q, k, v, extra):
        """Causal attention of ``[seq, heads, size]``; a prefix has no position and is always attended to."""
        groups = q.shape[1] // k.shape[1]
        mask = torch.ones(len(q), len(k)).tril().bool()
        if "self" in extra.prefix:
            keys, values = (part.unflatten(-1, k.shape[1:]) for part in extra.prefix["self"].chunk(2, dim=-1))
            k, v = torch.cat([keys, k]), torch.cat([values, v])
            mask = torch.cat([torch.ones(len(q), len(keys)).bool(), mask], dim=1)
        k, v = (part.repeat_interleave(groups, dim=1) for part in (k, v))
        products = torch.einsum("qhd,khd->hqk", q, k) / q.shape[-1] ** 0.5
        weights = torch.softmax(products.masked_fill(~mask, -1e30), dim=-1)
        return torch.einsum("hqk,khd->qhd", weights, v).flatten(1)

    def added(self, target, x, extra):
        """``s B A x``."""
        if target not in extra.lora.get("self", {}):
            return 0.0
        a, b, scale = extra.lora["self"][target]
        return scale * (x @ a.T @ b.T)


class PlainGPT2(PlainDecoder):
    """GPT-2: learned positions, LayerNorms, one matrix for query, key and value, held ``[in, out]``."""

    layers, norms, last_norm = "transformer.h", ("ln_1", "ln_2"), "transformer.ln_f"

    def embedded(self, ids):
        return self.weights["transformer.wte.weight"][ids] + self.weights["transformer.wpe.weight"][: len(ids)]

    def attend(self, at, x, extra):
        three = self.linear(f"{at}.attn.c_attn", x).chunk(3, dim=-1)
        heads = (self.config.n_head, -1)
        q, k, v = (
            (part + self.added(target, x, extra)).unflatten(-1, heads)
            for target, part in zip(("query", "key", "value"), three, strict=True)
        )
        return self.linear(f"{at}.attn.c_proj", self.mixed(q, k, v, extra))

    def ffn(self, at, x):
        return self.linear(f"{at}.mlp.c_proj", gelu_new(self.linear(f"{at}.mlp.c_fc", x)))

    def linear(self, at, x):
        return x @ self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]

    def norm(self, at, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + self.config.layer_norm_epsilon).sqrt()
        return scaled * self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]


class PlainLlama(PlainDecoder):
    """Llama, and Qwen2 with its biases: rotated queries and keys, RMS norms, a gated FFN, grouped keys and values."""

    layers, norms, last_norm = "model.layers", ("input_layernorm", "post_attention_layernorm"), "model.norm"

    def embedded(self, ids):
        return self.weights["model.embed_tokens.weight"][ids]

    def attend(self, at, x, extra):
        size = self.config.hidden_size // self.config.num_attention_heads
        q, k, v = (
            (self.linear(f"{at}.self_attn.{target[0]}_proj", x) + self.added(target, x, extra)).unflatten(
                -1, (-1, size)
            )
            for target in ("query", "key", "value")
        )
        return self.linear(f"{at}.self_attn.o_proj", self.mixed(self.rotated(q), self.rotated(k), v, extra))

    def rotated(self, x):
        """Rotary positions (Su et al. 2021): halves of a head turn against each other."""
        size = x.shape[-1]
        speeds = self.config.rope_parameters["rope_theta"] ** (-torch.arange(0, size, 2).double() / size)
        angles = (torch.arange(len(x)).double()[:, None] * speeds)[:, None, :]  # [seq, 1, size / 2]
        left, right = x.chunk(2, dim=-1)
        return torch.cat(
            [left * angles.cos() - right * angles.sin(), right * angles.cos() + left * angles.sin()], dim=-1
        )

    def ffn(self, at, x):
        gate = self.linear(f"{at}.mlp.gate_proj", x)
        return self.linear(f"{at}.mlp.down_proj", gate / (1 + torch.exp(-gate)) * self.linear(f"{at}.mlp.up_proj", x))

    def linear(self, at, x):
        bias = self.weights.get(f"{at}.bias")
        return x @ self.weights[f"{at}.weight"].T + (0.0 if bias is None else bias)

    def norm(self, at, x):
        scaled = x / (x.square().mean(-1, keepdim=True) + self.config.rms_norm_eps).sqrt()
        return scaled * self.weights[f"{at}.weight"]
