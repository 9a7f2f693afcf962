"""(IA)³ against backbones whose own matrices are scaled instead."""

import copy
from itertools import product
from typing import cast

import pytest
import torch
from torch import Tensor, nn

from propetl.errors import ConfigurationError
from propetl.families import FAMILIES, Projection
from propetl.hooks import attach
from propetl.model import ProPETLModel
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.ia3.layer import scaled
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import task_info

IA3 = PrototypeConfig("ia3")
FAMILY = pytest.mark.parametrize("name", FAMILIES)
IDS = torch.tensor([[7, 9, 11, 8, 12], [6, 5, 9, 0, 0]])
ASKED = {"input_ids": IDS, "attention_mask": (IDS != 0).long()}


def test_by_hand():
    """The middle third of a fused projection; a row of its own for each text."""
    weights = EffectiveWeights({"key": torch.tensor([[9.0, 9.0], [0.5, -1.0]])})
    hidden = torch.ones(1, 1, 6)
    assert scaled(hidden, weights, "key", 1, Projection("qkv", 1, 3)).tolist() == [[[1, 1, 1.5, 0, 1, 1]]]
    rows = EffectiveWeights({"key": torch.tensor([[[0.5, -1.0]], [[0.0, 1.0]]])}, rows=True)
    assert scaled(torch.ones(2, 1, 2), rows, "key", 0).tolist() == [[[1.5, 0]], [[1, 2]]]


def hooked(backbone, weights, config=IA3):
    model = copy.deepcopy(backbone.model)
    attach(model, backbone.family, config, lambda: weights)
    return model


def states(model, backbone):
    """What the model gives at every token, or a language model's logits of a fixed answer."""
    answer = {"decoder_input_ids": IDS[:, :3]} if backbone.family.kind == "encoder-decoder" else {}
    with torch.no_grad():
        return model(**ASKED, **answer)[0]


def random_weights(layout, seed=0):
    generator = torch.Generator().manual_seed(seed)
    return {tensor.name: torch.randn(tensor.slots, *tensor.shape, generator=generator) for tensor in layout.tensors}


@pytest.mark.parametrize(
    ("name", "scope"), [*product(FAMILIES, ["model"]), *product(("t5", "mt5", "bart"), ["stack"])]
)
def test_it_is_the_backbone_with_scaled_matrices(backbones, name, scope):
    backbone = backbones[name]
    config = PrototypeConfig("ia3", scope=scope)
    weights = random_weights(backbone.info.layout(config))
    found = states(hooked(backbone, EffectiveWeights(weights), config), backbone)
    other = copy.deepcopy(backbone.model)
    slot = number = 0
    for place, stack in enumerate(backbone.family.stacks):
        if scope == "stack":
            slot = number = 0
        at = {key: weights[config.prototype_of(place) + key] for key in ("key", "value", "ffn")}
        for layer in other.get_submodule(stack.layers):
            for attention in stack.attentions:
                for target in ("key", "value"):
                    scale_outputs(layer, attention.projections[target], 1 + at[target][slot])
                slot += 1
            scale_inputs(layer.get_submodule(stack.ffn_out), 1 + at["ffn"][number])
            number += 1
    torch.testing.assert_close(found, states(other, backbone), rtol=1e-4, atol=1e-4)
    assert (found - states(backbone.model, backbone)).abs().max() > 0.1  # it does something


def scale_outputs(layer, projection, scale):
    module, rows = layer.get_submodule(projection.path), slice(None)
    if projection.parts > 1:
        rows = slice(projection.part * len(scale), (projection.part + 1) * len(scale))
    matrix = module.weight.data if isinstance(module, nn.Linear) else module.weight.data.T
    matrix[rows] *= scale[:, None]
    if module.bias is not None:
        module.bias.data[rows] *= scale


def scale_inputs(module, scale):
    matrix = module.weight.data if isinstance(module, nn.Linear) else module.weight.data.T
    matrix *= scale


@FAMILY
def test_masked_or_fresh_it_is_the_bare_backbone_bit_for_bit(backbones, name):
    backbone = backbones[name]
    zeros = {key: 0 * value for key, value in random_weights(backbone.info.layout(IA3)).items()}
    assert torch.equal(states(hooked(backbone, EffectiveWeights(zeros)), backbone), states(backbone.model, backbone))
    model = ProPETLModel(backbone, IA3)
    assert all(not tensor.any() for tensor in model.prototype.tensors().values())


def test_each_row_may_have_weights_of_its_own(bert):
    alone = [random_weights(bert.info.layout(IA3), seed) for seed in range(2)]
    rows = EffectiveWeights({key: torch.stack([one[key] for one in alone]) for key in alone[0]}, rows=True)
    together = states(hooked(bert, rows), bert)
    for row, weights in enumerate(alone):
        found = states(hooked(bert, EffectiveWeights(weights)), bert)
        torch.testing.assert_close(together[row], found[row], rtol=1e-5, atol=1e-5)


def test_scores_learn_once_the_deviation_has_moved(bert):
    """At the first step the mask changes nothing, as a deviation of zero is one under any mask."""
    model = ProPETLModel(bert, IA3, tasks={"one": task_info(2)})
    scores = [parameter for _, parameter in model.score_parameters()]
    shared = [model.prototype.tensors()[name] for name in ("key", "value", "ffn")]
    optimizer = torch.optim.SGD(model.parameters(), lr=0.1)
    seen = []
    for _ in range(2):
        optimizer.zero_grad()
        model("one", **ASKED, labels=torch.tensor([0, 1])).loss.backward()
        seen.append([bool(cast(Tensor, parameter.grad).any()) for parameter in (*shared, *scores)])
        optimizer.step()
    assert seen == [[True] * 3 + [False] * 3, [True] * 6]


def test_the_ffn_has_a_slot_for_each_layer():
    """And keys and values have one for each attention: two in a decoder behind an encoder."""
    layout = layout_of(IA3, 8, 2, decoder_layers=3, query_size=12, ffn_size=16)
    assert {tensor.name: (tensor.slots, tensor.shape) for tensor in layout.tensors} == {
        "key": (8, (12,)), "value": (8, (12,)), "ffn": (5, (16,))
    }  # fmt: skip
    assert [layout.tensors_at(slot).get("ffn") for slot in range(8)] == [0, 1, None, 2, None, 3, None, 4]
    assert [layout.tensors_at(slot)["key"] for slot in range(8)] == list(range(8))
    each = layout_of(PrototypeConfig("ia3", scope="stack"), 8, 2, decoder_layers=3, ffn_size=16)
    assert [each.tensors_at(slot).get("decoder.ffn") for slot in range(8)] == [None, None, None, 0, None, 1, None, 2]


def test_ffns_of_different_widths_are_refused():
    with pytest.raises(ConfigurationError, match=r"method ia3 shares one vector .*differ in width.*another method"):
        layout_of(IA3, 8, 2)
