"""BART and the prototypes' equations written out plainly, in float64, as the oracle for the hooks."""

import torch
from torch.nn import functional as F


class PlainBart:
    """BART of transformers, from its weights alone; see ``plain_t5`` for what it is given."""

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
        return state @ self.weights["lm_head.weight"].T + self.weights["final_logits_bias"]

    def stack(self, name, ids, mask, extras, source=None, source_mask=None):
        """All layers of one stack: float64 ``[batch, seq, hidden]``."""
        at = f"model.{name}"
        heads = getattr(self.config, f"{name}_attention_heads")
        places = self.weights[f"{at}.embed_positions.weight"][2 : 2 + ids.shape[1]]  # two rows are for padding
        x = self.norm(f"{at}.layernorm_embedding", self.weights["model.shared.weight"][ids] + places)
        for index, extra in enumerate(extras):
            layer = f"{at}.layers.{index}"
            h = self.attend(f"{layer}.self_attn", heads, x, x, mask, extra, "self")
            x = self.norm(f"{layer}.self_attn_layer_norm", self.adapted(layer, "attention", h, x, extra) + x)
            if source is not None:
                h = self.attend(f"{layer}.encoder_attn", heads, x, source, source_mask, extra, "cross")
                x = self.norm(f"{layer}.encoder_attn_layer_norm", h + x)
            h = self.linear(f"{layer}.fc2", F.gelu(self.linear(f"{layer}.fc1", x)))
            x = self.norm(f"{layer}.final_layer_norm", self.adapted(layer, "ffn", h, x, extra) + x)
        return x

    def adapted(self, layer, site, h, r, extra):
        """``up(act(down(x))) + h`` with ``x = LN(h + r)``."""
        if site not in extra.adapters:
            return h
        norm = {"attention": "self_attn_layer_norm", "ffn": "final_layer_norm"}[site]
        down, down_bias, up, up_bias = extra.adapters[site]
        x = self.norm(f"{layer}.{norm}", h + r)
        return extra.activation(x @ down.T + down_bias) @ up.T + up_bias + h

    def attend(self, at, heads, x, other, mask, extra, kind):
        """Softmax attention; a prefix is put before keys and values and always attended to."""
        lora = extra.lora.get(kind, {})
        read = {"query": x, "key": other, "value": other}
        q, k, v = (
            self.projected(f"{at}.{target[0]}_proj", read[target], lora.get(target)).unflatten(-1, (heads, -1))
            for target in ("query", "key", "value")
        )
        products = torch.einsum("bqhd,bkhd->bhqk", q, k).masked_fill(~mask, -1e30)
        if kind in extra.prefix:
            keys, values = (part.unflatten(-1, (heads, -1)) for part in extra.prefix[kind].chunk(2, dim=-1))
            products = torch.cat([torch.einsum("bqhd,phd->bhqp", q, keys), products], dim=-1)
            v = torch.cat([values.expand(len(v), -1, -1, -1), v], dim=1)
        weights = torch.softmax(products / q.shape[-1] ** 0.5, dim=-1)
        return self.linear(f"{at}.out_proj", torch.einsum("bhqk,bkhd->bqhd", weights, v).flatten(2))

    def projected(self, at, x, lora):
        """``(W + s B A) x + b``."""
        weight = self.weights[f"{at}.weight"]
        if lora is not None:
            a, b, scale = lora
            weight = weight + scale * (b @ a)
        return x @ weight.T + self.weights[f"{at}.bias"]

    def linear(self, at, x):
        return x @ self.weights[f"{at}.weight"].T + self.weights[f"{at}.bias"]

    def norm(self, at, x):
        centred = x - x.mean(-1, keepdim=True)
        scaled = centred / (centred.square().mean(-1, keepdim=True) + 1e-5).sqrt()
        return scaled * self.weights[f"{at}.weight"] + self.weights[f"{at}.bias"]
