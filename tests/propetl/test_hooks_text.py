"""Hooked language models against the equations written out: training passes, generation with its cache, gradients."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from transformers import AutoModelForCausalLM, AutoModelForSeq2SeqLM

from propetl.backbone import load_backbone
from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError
from propetl.generation import generated_ids, token_logits
from propetl.heads import pooled
from propetl.hooks import attach
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.spec import PrototypeConfig
from tests.propetl.plain_decoders import PlainGPT2, PlainLlama
from tests.propetl.plain_encoder_decoders import Extra, PlainBart, PlainT5, gelu_new
from tests.tiny_backbone import tiny_backbone

PFEIFFER = PrototypeConfig(bottleneck=6, activation="gelu_new")
HOULSBY = PrototypeConfig(bottleneck=6, sites=("attention", "ffn"), activation="gelu_new")
LORA = PrototypeConfig(method="lora", rank=3, alpha=5.0)
LORA_ALL = dataclasses.replace(LORA, targets=("query", "key", "value"))
PREFIX = PrototypeConfig(method="prefix", prefix_length=4)
CONFIGS = {"pfeiffer": PFEIFFER, "houlsby": HOULSBY, "lora": LORA, "lora all": LORA_ALL, "prefix": PREFIX}
EACH = {f"{name} each": dataclasses.replace(config, scope="stack") for name, config in CONFIGS.items()}
EVERY_CONFIG = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())

ORACLES: dict[str, Any] = {
    "t5": PlainT5,
    "mt5": PlainT5,
    "bart": PlainBart,
    "gpt2": PlainGPT2,
    "llama": PlainLlama,
    "qwen2": PlainLlama,
}
NEW_TOKENS = 6


@pytest.fixture(params=[*ORACLES, "flan-t5"])
def model(request, backbones, tmp_path_factory):
    """T5: plain FFN, its embedding as head. mT5 and Flan-T5: a gated FFN and a head of its own. And all others."""
    if request.param != "flan-t5":
        return backbones[request.param]
    sizes = {"feed_forward_proj": "gated-gelu", "tie_word_embeddings": False}
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("flan"), "t5", own_head=True, **sizes)))


class Hooked:
    """A copy of a backbone with a method attached and random weights, another set at each slot."""

    def __init__(self, backbone, config, seed=0, merge=False):
        generator = torch.Generator().manual_seed(seed)
        self.config, self.layout, self.kind = config, backbone.info.layout(config), backbone.family.kind
        self.model = copy.deepcopy(backbone.model)
        self.start = self.model.config.decoder_start_token_id if self.kind == "encoder-decoder" else None
        self.model.generation_config.eos_token_id = None
        self.current: Any = EffectiveWeights(
            {
                tensor.name: 0.3 * torch.randn(tensor.slots, *tensor.shape, generator=generator)
                for tensor in self.layout.tensors
            }
        )
        attach(self.model, backbone.family, config, lambda: self.current, merge=merge)
        self.plain = ORACLES[backbone.family.name](backbone.model)

    @torch.no_grad()
    def logits(self, inputs, labels):
        return token_logits(self.model, inputs, labels)

    def oracle(self, inputs, labels):
        """What :meth:`logits` should be where labels are, float64."""
        if self.kind == "decoder":
            return torch.stack([self.continued(*row) for row in rows_of(inputs, labels)])
        return self.plain(inputs, started(labels, self.start), *self.extras())

    def continued(self, prompt, answer):
        """Logits of a decoder at every token of one answer."""
        hidden = self.plain(torch.cat([prompt, answer.clamp(min=0)]), *self.extras())
        return self.plain.logits(hidden)[len(prompt) - 1 : -1]

    def extras(self):
        """The same weights for the oracle, numbered here by hand: stack by stack, layer by layer, place by place.

        Where encoder and decoder have a prototype each, each counts from 0.
        """
        attends = {"encoder-decoder": (1, 2), "decoder": (1,)}[self.kind]
        found, slot, total = [], 0, 0
        depths = {"encoder.": self.layout.layers, "decoder.": self.layout.decoder_layers}
        for (stack, layers), attentions in zip(depths.items(), attends, strict=False):
            places = len(self.config.sites) if self.config.method == "adapter" else attentions
            stack, slot = (stack, 0) if self.config.scope == "stack" else ("", slot)
            kinds = ("self", "cross")[:attentions]
            found.append([self.extra(stack, slot + index * places, kinds) for index in range(layers)])
            slot, total = slot + layers * places, total + layers * places
        assert total == self.layout.slots
        return found

    def extra(self, stack, slot, attentions):
        if self.current is None:
            return Extra()
        found = self.current.per_slot.items()
        at = {name.removeprefix(stack): tensor.double() for name, tensor in found if name.startswith(stack)}
        if self.config.method == "adapter":
            names = ("down.weight", "down.bias", "up.weight", "up.bias")
            adapters = {
                site: tuple(at[name][slot + place] for name in names) for place, site in enumerate(self.config.sites)
            }
            return Extra(adapters=adapters, activation=gelu_new, with_residual=self.config.sites == ("ffn",))
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


def rows_of(inputs, labels):
    """Real tokens of each prompt, and the answer."""
    for ids, mask, answer in zip(inputs["input_ids"], inputs["attention_mask"], labels, strict=True):
        yield ids[mask.bool()], answer


def started(labels, start):
    """What a decoder after an encoder reads for ``labels``: the start token, then all but the last."""
    shifted = torch.cat([torch.full_like(labels[:, :1], start), labels[:, :-1]], dim=1)
    return shifted.masked_fill(shifted == -100, 0)


def close(left, right):
    torch.testing.assert_close(left.double(), right.double(), rtol=1e-4, atol=1e-4)


def test_heads_are_tied_in_the_first_t5_alone(backbones):
    tied = {
        name: torch.equal(backbones[name].model.lm_head.weight, backbones[name].model.shared.weight)
        for name in ("t5", "mt5")
    }
    assert tied == {"t5": True, "mt5": False}


def test_the_oracle_is_the_bare_backbone(model, asked):
    inputs, labels = asked
    hooked = Hooked(model, PFEIFFER)
    hooked.current = None
    close(answered(hooked.logits(inputs, labels), labels), answered(hooked.oracle(inputs, labels), labels))


@EVERY_CONFIG
def test_the_equations(model, asked, config):
    inputs, labels = asked
    hooked = Hooked(model, config)
    expected = answered(hooked.oracle(inputs, labels), labels)
    close(answered(hooked.logits(inputs, labels), labels), expected)
    hooked.current = None
    assert (answered(hooked.logits(inputs, labels), labels) - expected).abs().max() > 0.1  # the method does something


def answered(logits, labels):
    """Those at real tokens of the answers."""
    return logits[labels != -100]


@EVERY_CONFIG
def test_generation_with_a_cache_follows_the_oracle_without_one(model, asked, config):
    """Each new token is the most likely one by the equations: nothing is in the cache twice, or missing."""
    inputs, _ = asked
    hooked = Hooked(model, config)
    with torch.no_grad():
        found = generated_ids(hooked.model, TextInfo("{}", max_target_length=NEW_TOKENS), inputs)
    ids = torch.zeros(len(found), 0, dtype=torch.int64)
    for _ in range(NEW_TOKENS):
        asked_next = torch.cat([ids, ids.new_zeros(len(ids), 1)], dim=1)
        ids = torch.cat([ids, hooked.oracle(inputs, asked_next)[:, -1].argmax(-1, keepdim=True)], dim=1)
    assert torch.equal(found, ids)


@EVERY_CONFIG
def test_beams_rank_whole_answers(model, asked, config):
    """No beam of four is less likely than the greedy answer, by the equations."""
    inputs, _ = asked
    hooked = Hooked(model, config)
    text = TextInfo("{}", max_target_length=4, num_beams=4)
    with torch.no_grad():
        answers = {beams: generated_ids(hooked.model, text, inputs, num_beams=beams) for beams in (1, 4)}
    scores = {beams: _likelihood(hooked.oracle(inputs, ids), ids) for beams, ids in answers.items()}
    assert (scores[4] >= scores[1] - 1e-6).sum() >= 2  # a search may lose what greedy finds, but hardly ever


def _likelihood(logits, ids):
    return logits.log_softmax(-1).gather(-1, ids[..., None]).sum(dim=(1, 2))


@EVERY_CONFIG
@pytest.mark.parametrize("name", ["gpt2", "llama"])
def test_what_a_head_reads_of_a_decoder_is_its_last_real_token(backbones, asked, name, config):
    inputs, labels = asked
    hooked = Hooked(backbones[name], config)
    with torch.no_grad():
        found = pooled(hooked.model, "decoder", inputs)
        left = pooled(hooked.model, "decoder", {key: tensor.flip(1) for key, tensor in inputs.items()})
    expected = torch.stack([hooked.plain(prompt, *hooked.extras())[-1] for prompt, _ in rows_of(inputs, labels)])
    close(found, expected)
    close(left[2], found[2])  # one token, its padding on the other side


@pytest.mark.parametrize("config", EACH.values(), ids=EACH.keys())
def test_encoder_and_decoder_may_have_a_prototype_each(text_backbone, asked, config):
    """Other names and other counts of slots, and all holds that holds for one."""
    for check in (
        test_the_equations,
        test_generation_with_a_cache_follows_the_oracle_without_one,
        test_a_weight_for_each_row,
        test_gradients_reach_every_weight,
    ):
        check(text_backbone, asked, config)


def test_a_prefix_is_not_in_the_cache(text_backbone, asked):
    from transformers import DynamicCache, EncoderDecoderCache

    inputs, labels = asked
    hooked = Hooked(text_backbone, PREFIX)
    cache: Any = EncoderDecoderCache(DynamicCache(), DynamicCache())
    with torch.no_grad():
        hooked.model(**inputs, decoder_input_ids=started(labels, hooked.start), use_cache=True, past_key_values=cache)
    for layer in cache.self_attention_cache.layers:
        assert layer.keys.shape[2] == labels.shape[1]
    for layer in cache.cross_attention_cache.layers:
        assert layer.keys.shape[2] == inputs["input_ids"].shape[1]


@pytest.mark.parametrize("config", [LORA, LORA_ALL], ids=["query value", "all"])
def test_lora_merged_equals_the_branch(model, asked, config):
    branch, merged = Hooked(model, config), Hooked(model, config, merge=True)
    close(answered(branch.logits(*asked), asked[1]), answered(merged.logits(*asked), asked[1]))


@pytest.fixture
def fused_linear(backbones, tmp_path):
    """GPT-2 with an ``nn.Linear`` where it has its ``Conv1D``: query, key and value in one matrix ``[3 * out, in]``."""
    backbone = dataclasses.replace(backbones["gpt2"], model=copy.deepcopy(backbones["gpt2"].model))
    for layer in backbone.model.transformer.h:
        one = layer.attn.c_attn
        layer.attn.c_attn = torch.nn.Linear(*one.weight.shape)
        layer.attn.c_attn.weight, layer.attn.c_attn.bias = torch.nn.Parameter(one.weight.T.contiguous()), one.bias
    return backbone


@pytest.mark.parametrize("config", [LORA, LORA_ALL], ids=["query value", "all"])
@pytest.mark.parametrize("merge", [False, True], ids=["beside", "merged"])
def test_a_fused_projection_takes_all_its_targets(backbones, fused_linear, asked, config, merge):
    """Of several targets in one matrix each has rows of its own, whichever way round the matrix is held."""
    hooked = Hooked(backbones["gpt2"], config)
    expected = hooked.oracle(*asked)
    for backbone in (fused_linear, backbones["gpt2"]):
        found = Hooked(backbone, config, merge=merge).logits(*asked)
        close(answered(found, asked[1]), answered(expected, asked[1]))


def test_a_matrix_that_is_not_known_is_not_merged_into(fused_linear):
    fused_linear.model.transformer.h[1].attn.c_attn = torch.nn.Bilinear(2, 2, 2)
    with pytest.raises(ConfigurationError, match=r"merged into attn.c_attn, a Bilinear: .*leave --merge-weights out"):
        Hooked(fused_linear, LORA, merge=True)


@EVERY_CONFIG
def test_without_weights_the_model_is_transformers_own_bit_for_bit(model, asked, config):
    inputs, labels = asked
    hooked = Hooked(model, config)
    hooked.current = None
    loader = AutoModelForSeq2SeqLM if hooked.kind == "encoder-decoder" else AutoModelForCausalLM
    bare = loader.from_pretrained(model.info.name, attn_implementation="sdpa").eval()
    with torch.no_grad():
        expected = token_logits(bare, inputs, labels)
    assert torch.equal(hooked.logits(inputs, labels), expected)


@EVERY_CONFIG
def test_what_stands_at_padding_does_not_matter(model, asked, config):
    inputs, labels = asked
    hooked = Hooked(model, config)
    longer = {name: torch.nn.functional.pad(tensor, (0, 3)) for name, tensor in inputs.items()}
    close(answered(hooked.logits(inputs, labels), labels), answered(hooked.logits(longer, labels), labels))


@EVERY_CONFIG
def test_hooks_of_two_models_of_one_backbone_do_not_meet(model, asked, config):
    implementations = {id(part.config): part.config for part in model.model.modules() if hasattr(part, "config")}
    one, other = Hooked(model, config, seed=1), Hooked(model, LORA, seed=2)
    alone = one.logits(*asked), other.logits(*asked)
    assert torch.equal(one.logits(*asked), alone[0]) and torch.equal(other.logits(*asked), alone[1])
    assert not torch.equal(alone[0], alone[1])
    assert {config._attn_implementation for config in implementations.values()} == {"sdpa"}


@EVERY_CONFIG
def test_a_weight_for_each_row(model, asked, config):
    """A bank gives each row its own weights: the same as running the rows one by one."""
    inputs, labels = asked
    hooked = Hooked(model, config)
    sets = [Hooked(model, config, seed=seed).current.per_slot for seed in range(3)]
    hooked.current = EffectiveWeights({name: torch.stack([one[name] for one in sets]) for name in sets[0]}, rows=True)
    together = hooked.logits(inputs, labels)
    for row, one in enumerate(sets):
        hooked.current = EffectiveWeights(one)
        single = {name: tensor[row : row + 1] for name, tensor in inputs.items()}
        alone = hooked.logits(single, labels[row : row + 1])
        close(answered(together[row], labels[row]), answered(alone[0], labels[row]))


@EVERY_CONFIG
def test_gradients_reach_every_weight(model, asked, config):
    inputs, labels = asked
    hooked = Hooked(model, config)
    weights = {name: tensor.requires_grad_() for name, tensor in hooked.current.per_slot.items()}
    answered(token_logits(hooked.model, inputs, labels), labels).square().sum().backward()
    for name, tensor in weights.items():
        assert tensor.grad is not None and (tensor.grad.flatten(1).abs().sum(dim=1) > 0).all(), name
