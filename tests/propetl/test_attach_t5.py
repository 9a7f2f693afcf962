"""Hooked T5s against the equations written out: training passes, generation with its cache, gradients."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from transformers import AutoModelForSeq2SeqLM

from propetl.attach import attach
from propetl.backbone import load_backbone
from propetl.generation import token_logits
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.spec import PrototypeConfig
from tests.propetl.plain_t5 import Extra, PlainT5, gelu_new
from tests.tiny_backbone import tiny_backbone

PFEIFFER = PrototypeConfig(bottleneck=6, activation="gelu_new")
HOULSBY = PrototypeConfig(bottleneck=6, sites=("attention", "ffn"), activation="gelu_new")
LORA = PrototypeConfig(method="lora", rank=3, alpha=5.0)
LORA_ALL = dataclasses.replace(LORA, targets=("query", "key", "value"))
PREFIX = PrototypeConfig(method="prefix", prefix_length=4)
CONFIGS = {"pfeiffer": PFEIFFER, "houlsby": HOULSBY, "lora": LORA, "lora all": LORA_ALL, "prefix": PREFIX}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


@pytest.fixture(params=["t5", "mt5", "flan-t5"])
def t5(request, backbones, tmp_path_factory):
    """T5: plain FFN, its embedding as head. mT5 and Flan-T5: a gated FFN and a head of its own."""
    if request.param != "flan-t5":
        return backbones[request.param]
    sizes = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("flan"), "t5", own_head=True, **sizes)))


class Hooked:
    """A copy of a backbone with a method attached and random weights, another set at each slot."""

    def __init__(self, backbone, config, seed=0, merge_lora=False):
        generator = torch.Generator().manual_seed(seed)
        self.config, self.layout = config, backbone.info.layout(config)
        self.model = copy.deepcopy(backbone.model)
        self.current: Any = EffectiveWeights(
            {
                tensor.name: 0.3 * torch.randn(self.layout.slots, *tensor.shape, generator=generator)
                for tensor in self.layout.tensors
            }
        )
        attach(self.model, backbone.family, config, lambda: self.current, merge_lora=merge_lora)
        self.plain = PlainT5(backbone.model)

    @torch.no_grad()
    def logits(self, inputs, labels):
        return token_logits(self.model, inputs, labels)

    def oracle(self, inputs, decoder_ids):
        """The same weights, numbered here by hand: encoder first, layer by layer, place by place."""
        encoder, decoder = self.layout.layers, self.layout.decoder_layers
        places = (2, 2) if self.config == HOULSBY else (1, 1) if self.config == PFEIFFER else (1, 2)
        first = [self.extra(index * places[0], ("self",)) for index in range(encoder)]
        start = encoder * places[0]
        second = [self.extra(start + index * places[1], ("self", "cross")) for index in range(decoder)]
        assert self.layout.slots == start + decoder * places[1]
        return self.plain(inputs, decoder_ids, first, second)

    def extra(self, slot, attentions):
        at = {name: tensor.double() for name, tensor in self.current.per_slot.items()}
        if self.config.method == "adapter":
            names = ("down.weight", "down.bias", "up.weight", "up.bias")
            adapters = {
                site: tuple(at[name][slot + place] for name in names) for place, site in enumerate(self.config.sites)
            }
            return Extra(adapters=adapters, activation=gelu_new, with_residual=self.config == PFEIFFER)
        if self.config.method == "lora":
            scale = self.config.alpha / self.config.rank
            pairs = {
                kind: {
                    target: (at[f"{target}.a"][slot + place], at[f"{target}.b"][slot + place], scale)
                    for target in self.config.targets
                }
                for place, kind in enumerate(attentions)
            }
            return Extra(lora=pairs)
        return Extra(prefix={kind: at["prefix"][slot + place] for place, kind in enumerate(attentions)})


def started(labels):
    """What the decoder reads for ``labels``: the start token, then all but the last."""
    shifted = torch.cat([torch.zeros_like(labels[:, :1]), labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == -100, 0)


def close(left, right):
    torch.testing.assert_close(left.double(), right.double(), rtol=1e-4, atol=1e-4)


def test_heads_are_tied_in_the_first_t5_alone(t5, request):
    tied = torch.equal(t5.model.lm_head.weight, t5.model.shared.weight)
    assert tied == (request.node.callspec.params["t5"] == "t5")


def test_the_oracle_is_the_bare_backbone(t5, asked):
    inputs, labels = asked
    bare = [Extra()] * t5.info.layers, [Extra()] * t5.info.decoder_layers
    with torch.no_grad():
        close(token_logits(t5.model, inputs, labels), PlainT5(t5.model)(inputs, started(labels), *bare))


@EVERY_CONFIG
def test_the_equations(t5, asked, config):
    inputs, labels = asked
    hooked = Hooked(t5, config)
    expected = hooked.oracle(inputs, started(labels))
    close(hooked.logits(inputs, labels), expected)
    hooked.current = None
    assert (hooked.logits(inputs, labels) - expected).abs().max() > 0.1  # the method does something


@EVERY_CONFIG
def test_generation_with_a_cache_follows_the_oracle_without_one(t5, asked, config):
    """Each new token is the most likely one by the equations: nothing is in the cache twice, or missing."""
    inputs, _ = asked
    hooked = Hooked(t5, config)
    with torch.no_grad():
        found = hooked.model.generate(
            **inputs, max_new_tokens=6, do_sample=False, eos_token_id=None, past_key_values=_cache()
        )
    ids = torch.zeros(len(found), 1, dtype=torch.int64)
    for _ in range(6):
        ids = torch.cat([ids, hooked.oracle(inputs, ids)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(found, ids)


def _cache():
    from transformers import DynamicCache, EncoderDecoderCache

    return EncoderDecoderCache(DynamicCache(), DynamicCache())


def test_a_prefix_is_not_in_the_cache(text_backbone, asked):
    inputs, labels = asked
    hooked = Hooked(text_backbone, PREFIX)
    with torch.no_grad():
        cache = hooked.model(**inputs, decoder_input_ids=started(labels), use_cache=True, past_key_values=_cache())
    for layer in cache.past_key_values.self_attention_cache.layers:
        assert layer.keys.shape[2] == labels.shape[1]
    for layer in cache.past_key_values.cross_attention_cache.layers:
        assert layer.keys.shape[2] == inputs["input_ids"].shape[1]


@pytest.mark.parametrize("config", [LORA, LORA_ALL], ids=["query value", "all"])
def test_lora_merged_equals_the_branch(text_backbone, asked, config):
    branch, merged = Hooked(text_backbone, config), Hooked(text_backbone, config, merge_lora=True)
    close(branch.logits(*asked), merged.logits(*asked))


@EVERY_CONFIG
def test_without_weights_the_model_is_transformers_own_bit_for_bit(text_backbone, asked, config):
    inputs, labels = asked
    hooked = Hooked(text_backbone, config)
    hooked.current = None
    bare = AutoModelForSeq2SeqLM.from_pretrained(text_backbone.info.name, attn_implementation="sdpa").eval()
    with torch.no_grad():
        expected = token_logits(bare, inputs, labels)
    assert torch.equal(hooked.logits(inputs, labels), expected)


@EVERY_CONFIG
def test_what_stands_at_padding_does_not_matter(text_backbone, asked, config):
    inputs, labels = asked
    hooked = Hooked(text_backbone, config)
    longer = {name: torch.nn.functional.pad(tensor, (0, 3)) for name, tensor in inputs.items()}
    close(hooked.logits(inputs, labels), hooked.logits(longer, labels))


@EVERY_CONFIG
def test_hooks_of_two_models_of_one_backbone_do_not_meet(text_backbone, asked, config):
    before = text_backbone.model.config._attn_implementation
    one, other = Hooked(text_backbone, config, seed=1), Hooked(text_backbone, LORA, seed=2)
    alone = one.logits(*asked), other.logits(*asked)
    assert torch.equal(one.logits(*asked), alone[0]) and torch.equal(other.logits(*asked), alone[1])
    assert not torch.equal(alone[0], alone[1])
    assert text_backbone.model.config._attn_implementation == before
    assert text_backbone.model.decoder.config._attn_implementation == before


@EVERY_CONFIG
def test_a_weight_for_each_row(text_backbone, asked, config):
    """A bank gives each row its own weights: the same as running the rows one by one."""
    inputs, labels = asked
    hooked = Hooked(text_backbone, config)
    sets = [Hooked(text_backbone, config, seed=seed).current.per_slot for seed in range(3)]
    hooked.current = EffectiveWeights({name: torch.stack([one[name] for one in sets]) for name in sets[0]}, rows=True)
    together = hooked.logits(inputs, labels)
    for row, one in enumerate(sets):
        hooked.current = EffectiveWeights(one)
        single = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        close(together[row : row + 1], hooked.logits(single, labels[row : row + 1]))


@EVERY_CONFIG
def test_gradients_reach_every_weight(text_backbone, asked, config):
    inputs, labels = asked
    hooked = Hooked(text_backbone, config)
    weights = {name: tensor.requires_grad_() for name, tensor in hooked.current.per_slot.items()}
    token_logits(hooked.model, inputs, labels).square().sum().backward()
    for name, tensor in weights.items():
        assert tensor.grad is not None and (tensor.grad.flatten(1).abs().sum(dim=1) > 0).all(), name
