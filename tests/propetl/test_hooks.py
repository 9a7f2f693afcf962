"""Hooked backbones against the equations written out, for every family."""

import copy
import dataclasses
from typing import Any

import pytest
import torch
from transformers import AutoModel

from propetl.errors import ConfigurationError
from propetl.hooks import attach
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.spec import PrototypeConfig
from tests.propetl.conftest import ENCODERS
from tests.propetl.plain_transformer import Extra, PlainEncoder

ACTIVATIONS = {
    "relu": lambda x: x.clamp(min=0),
    "tanh": torch.tanh,
    "silu": lambda x: x / (1 + torch.exp(-x)),
    "gelu": lambda x: 0.5 * x * (1 + torch.erf(x / 2**0.5)),
}
PFEIFFER = PrototypeConfig(bottleneck=6)
HOULSBY = PrototypeConfig(bottleneck=6, sites=("attention", "ffn"), activation="gelu")
LORA = PrototypeConfig(method="lora", rank=3, alpha=5.0)
LORA_ALL = dataclasses.replace(LORA, targets=("query", "key", "value"))
PREFIX = PrototypeConfig(method="prefix", prefix_length=4)
CONFIGS = {"pfeiffer": PFEIFFER, "houlsby": HOULSBY, "lora": LORA, "lora all": LORA_ALL, "prefix": PREFIX}


class Hooked:
    """A copy of a backbone with a method attached and random weights, another set at each slot."""

    def __init__(self, backbone, config, seed=0, merge=False):
        generator = torch.Generator().manual_seed(seed)
        self.config, self.family = config, backbone.family
        self.layout = backbone.info.layout(config)
        self.model = copy.deepcopy(backbone.model)
        self.current: Any = EffectiveWeights(
            {
                tensor.name: 0.3 * torch.randn(tensor.slots, *tensor.shape, generator=generator)
                for tensor in self.layout.tensors
            }
        )
        attach(self.model, backbone.family, config, lambda: self.current, merge=merge)

    def __call__(self, inputs):
        with torch.no_grad():
            return self.model(**inputs).last_hidden_state

    def extra(self, layer):
        """The same weights for the oracle: slot = layer * sites per layer + site."""
        at = {name: tensor.double() for name, tensor in self.current.per_slot.items()}
        if self.config.method == "adapter":
            names = ("down.weight", "down.bias", "up.weight", "up.bias")
            first = layer * len(self.config.sites)
            adapters = {
                site: tuple(at[name][first + place] for name in names) for place, site in enumerate(self.config.sites)
            }
            return Extra(adapters=adapters, activation=ACTIVATIONS[self.config.activation])
        if self.config.method == "lora":
            scale = self.config.alpha / self.config.rank
            return Extra(
                lora={kind: (at[f"{kind}.a"][layer], at[f"{kind}.b"][layer], scale) for kind in self.config.targets}
            )
        return Extra(prefix=at["prefix"][layer])

    def oracle(self, inputs, plain):
        return plain(inputs, [self.extra(layer) for layer in range(self.layout.layers)])


def real(hidden, inputs):
    """States of real tokens: what stands at padding is nobody's business."""
    return hidden[inputs["attention_mask"].bool()]


def close(left, right):
    torch.testing.assert_close(left.double(), right.double(), rtol=2e-5, atol=2e-5)


def test_the_oracle_is_the_bare_backbone(backbone, text):
    plain = PlainEncoder(backbone.model, backbone.family.name)
    bare = backbone.model(**text).last_hidden_state
    close(real(plain(text, [Extra()] * 2), text), real(bare, text))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_every_family_computes_the_equations(backbone, text, config):
    hooked = Hooked(backbone, config)
    expected = hooked.oracle(text, PlainEncoder(backbone.model, backbone.family.name))
    close(real(hooked(text), text), real(expected, text))
    bare = backbone.model(**text).last_hidden_state
    assert (real(expected, text) - real(bare, text)).abs().max() > 0.1  # the method does something


@pytest.mark.parametrize("activation", ACTIVATIONS)
def test_activations_of_the_adapter(bert, text, activation):
    hooked = Hooked(bert, dataclasses.replace(PFEIFFER, activation=activation))
    close(real(hooked(text), text), real(hooked.oracle(text, PlainEncoder(bert.model, "bert")), text))


@pytest.mark.parametrize("method", ["adapter", "lora", "prefix"])
def test_without_padding_and_with_one_token(bert, method):
    for shape in ((2, 6), (1, 1), (4, 1)):
        inputs = {"input_ids": torch.full(shape, 7), "attention_mask": torch.ones(shape, dtype=torch.int64)}
        hooked = Hooked(bert, PrototypeConfig(method=method, bottleneck=6, rank=3, prefix_length=4))
        close(hooked(inputs), hooked.oracle(inputs, PlainEncoder(bert.model, "bert")))


@pytest.mark.parametrize("config", [LORA, LORA_ALL], ids=["query value", "all"])
def test_lora_merged_equals_the_branch(backbone, text, config):
    branch, merged = Hooked(backbone, config), Hooked(backbone, config, merge=True)
    close(branch(text), merged(text))


def test_a_prefix_is_refused_where_nothing_knows_how_the_family_attends(bert):
    """It would attend as MPNet does, whose modules and arguments have other names."""
    unknown = dataclasses.replace(bert.family, name="own", attention_interface=False)
    with pytest.raises(ConfigurationError, match=r"prefix: own does not attend through .*only mpnet has"):
        attach(copy.deepcopy(bert.model), unknown, PREFIX, lambda: None)
    attach(copy.deepcopy(bert.model), unknown, LORA, lambda: None)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_without_weights_the_model_is_the_automodel_bit_for_bit(backbone, text, config):
    hooked = Hooked(backbone, config)
    hooked.current = None
    bare = AutoModel.from_pretrained(backbone.info.name, attn_implementation=_attention_of(backbone)).eval()
    with torch.no_grad():
        expected = bare(**text).last_hidden_state
    assert torch.equal(hooked(text), expected)


def _attention_of(backbone):
    return "sdpa" if backbone.family.attention_interface else None


@pytest.mark.parametrize("config", [PFEIFFER, HOULSBY, LORA], ids=["pfeiffer", "houlsby", "lora"])
def test_weights_of_zero_change_nothing_but_rounding(backbone, text, config):
    """A prefix of zeros is no such case: its zero keys are attended to."""
    hooked = Hooked(backbone, config)
    hooked.current = EffectiveWeights({name: 0 * tensor for name, tensor in hooked.current.per_slot.items()})
    assert torch.equal(hooked(text), backbone.model(**text).last_hidden_state)


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_what_stands_at_padding_does_not_matter(backbone, text, config):
    hooked = Hooked(backbone, config)
    longer = {name: torch.nn.functional.pad(tensor, (0, 3)) for name, tensor in text.items()}
    close(real(hooked(text), text), real(hooked(longer), longer))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_hooks_of_two_models_of_one_backbone_do_not_meet(backbone, text, config):
    before = backbone.model(**text).last_hidden_state
    one, other = Hooked(backbone, config, seed=1), Hooked(backbone, CONFIGS["lora"], seed=2)
    alone = one(text), other(text)
    assert torch.equal(one(text), alone[0]) and torch.equal(other(text), alone[1])
    assert not torch.equal(alone[0], alone[1])
    assert torch.equal(backbone.model(**text).last_hidden_state, before)
    assert (
        backbone.model.config._attn_implementation
        == AutoModel.from_pretrained(
            backbone.info.name, attn_implementation=_attention_of(backbone)
        ).config._attn_implementation
    )


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_a_weight_for_each_row(backbone, text, config):
    """A bank gives each row its own weights: the same as running the rows one by one."""
    hooked, sets = (
        Hooked(backbone, config),
        [Hooked(backbone, config, seed=seed).current.per_slot for seed in range(3)],
    )
    rows = {name: torch.stack([one[name] for one in sets]) for name in sets[0]}
    hooked.current = EffectiveWeights(rows, rows=True)
    together = hooked(text)
    for row, one in enumerate(sets):
        hooked.current = EffectiveWeights(one)
        single = {name: tensor[row : row + 1] for name, tensor in text.items()}
        close(real(together[row : row + 1], single), real(hooked(single), single))


@pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())
def test_gradients_reach_every_weight(backbone, text, config):
    hooked = Hooked(backbone, config)
    weights = {name: tensor.requires_grad_() for name, tensor in hooked.current.per_slot.items()}
    real(hooked.model(**text).last_hidden_state, text).square().sum().backward()
    for name, tensor in weights.items():
        assert tensor.grad is not None and (tensor.grad.flatten(1).abs().sum(dim=1) > 0).all(), name


def test_a_batch_leaves_no_tensors_behind(bert, text):
    """A residual that is remembered for a later call would keep a whole batch in memory."""
    hooked = Hooked(bert, HOULSBY)
    for current in (hooked.current, None):
        hooked.current = current
        hooked(text)
        kept = [
            cell.cell_contents
            for module in hooked.model.modules()
            for hook in (*module._forward_hooks.values(), *module._forward_pre_hooks.values())
            for cell in hook.__closure__ or ()
            if isinstance(cell.cell_contents, list)
        ]
        assert kept and not any(kept)


@pytest.mark.parametrize("family", ENCODERS)
def test_dropout_of_the_prefix_attention_is_for_training_only(backbones, text, family):
    hooked = Hooked(backbones[family], PREFIX)
    torch.manual_seed(0)
    hooked.model.train()
    first, second = hooked(text), hooked(text)
    assert not torch.equal(first, second)
    hooked.model.eval()
    assert torch.equal(hooked(text), hooked(text))
