"""What a task owns: masks or weights."""

import numpy as np
import pytest
import torch

from propetl.bits import unpack
from propetl.masks import kept_count
from propetl.prototypes.layout import layout_of
from propetl.prototypes.mask_set import FixedMasks, SharedMaskSets, TrainedMasks, new_shared_masks
from propetl.prototypes.prefix.reparametrisation import OwnPrefix
from propetl.prototypes.prototype import new_prototype
from propetl.prototypes.spec import PrototypeConfig
from propetl.prototypes.task import (
    MaskedPart,
    NothingOwn,
    OwnWeights,
    SparseWeights,
    new_task_part,
    read_task_part,
)

ADAPTER = layout_of(PrototypeConfig(bottleneck=3, sparsity=0.3), 7, 2)
NOTHING_SHARED = SharedMaskSets(None, {})


def prototype(layout):
    generator = torch.Generator().manual_seed(0)
    return {tensor.name: torch.randn(tensor.shape, generator=generator) for tensor in layout.tensors}


def hybrid(masks="hybrid", combine="or", languages=()):
    config = PrototypeConfig(bottleneck=3, sparsity=0.3, masks=masks, combine=combine, languages=languages)
    return layout_of(config, 7, 2)


def masked_part(layout, language=None) -> MaskedPart:
    part = new_task_part(layout, language)
    assert isinstance(part, MaskedPart)
    return part


def packed(masks):
    assert masks is not None
    return masks.packed()


def test_what_runs_is_the_prototype_times_the_mask():
    part, shared = masked_part(ADAPTER), prototype(ADAPTER)
    effective, bits = part.effective(shared, NOTHING_SHARED), part.packed_masks()
    for tensor in ADAPTER.masked_tensors:
        mask = unpack(bits[tensor.name], tensor.size).reshape(2, *tensor.shape)
        assert mask.reshape(2, -1).sum(axis=1).tolist() == [kept_count(tensor.size, 0.3)] * 2
        for slot in range(2):
            expected = shared[tensor.name].numpy() * mask[slot]
            assert np.array_equal(effective.at(tensor.name, slot).detach().numpy(), expected)
    assert effective.at("up.bias", 1) is shared["up.bias"]


RULES = {
    "or": lambda masks: np.logical_or.reduce(masks),
    "and": lambda masks: np.logical_and.reduce(masks),
    "add": lambda masks: np.sum(masks, axis=0, dtype=np.float32),
}


@pytest.mark.parametrize("languages", [(), ("de", "en")])
@pytest.mark.parametrize("rule", RULES)
def test_hybrid_masks_are_combined_from_layer_language_and_task(rule, languages):
    layout = hybrid(combine=rule, languages=languages)
    shared, weights = new_shared_masks(layout), prototype(layout)
    language = "en" if languages else None
    part = masked_part(layout, language)
    effective = part.effective(weights, shared)
    for tensor in layout.masked_tensors:
        layers = unpack(packed(shared.layers)[tensor.name], tensor.size)
        task = unpack(part.packed_masks()[tensor.name], tensor.size)
        spoken = [unpack(shared.language("en").packed()[tensor.name], tensor.size)] if languages else []
        for slot in range(2):
            mask = RULES[rule]([layers[slot], *spoken, task]).reshape(tensor.shape)
            found = effective.at(tensor.name, slot).detach().numpy()
            assert np.array_equal(found, weights[tensor.name].numpy() * mask)


def test_half_of_hybrid_is_the_layers_masks_or_the_tasks():
    layers, tasks = hybrid("only-layers"), hybrid("only-tasks")
    weights = prototype(layers)
    shared = new_shared_masks(layers)
    part = masked_part(layers)
    assert part.own is None and part.packed_masks() == {} and not list(part.parameters())
    assert shared.layers is not None
    for name, mask in shared.layers.masks().items():
        for slot in range(2):
            assert torch.equal(part.effective(weights, shared).at(name, slot), weights[name] * mask[slot])
    none, part = new_shared_masks(tasks), masked_part(tasks)
    assert part.own is not None
    assert none.layers is None and not list(none.parameters())
    for name, mask in part.own.masks().items():
        for slot in range(2):
            assert torch.equal(part.effective(weights, none).at(name, slot), weights[name] * mask[0])


def test_gradients_of_hybrid_masks_reach_all_scores():
    layout = hybrid(languages=("de",))
    shared, part = new_shared_masks(layout), masked_part(layout, "de")
    torch.cat(
        [tensor.flatten() for tensor in part.effective(prototype(layout), shared).per_slot.values()]
    ).sum().backward()
    parameters = [*shared.parameters(), *part.parameters()]
    assert len(parameters) == 6
    assert all(parameter.grad is not None and parameter.grad.any() for parameter in parameters)


@pytest.mark.parametrize("masks", ["layer", "hybrid", "only-layers", "only-tasks"])
def test_masks_read_back_are_the_masks_that_trained(masks):
    layout = hybrid(masks)
    shared, trained, weights = new_shared_masks(layout), new_task_part(layout), prototype(layout)
    read = SharedMaskSets(None if shared.layers is None else FixedMasks(layout, packed(shared.layers)), {})
    fixed = read_task_part(layout, trained.packed_masks(), {})
    for tensor in layout.masked_tensors:
        for slot in range(2):
            expected = trained.effective(weights, shared).at(tensor.name, slot)
            assert torch.equal(fixed.effective(weights, read).at(tensor.name, slot), expected)
    assert all(np.array_equal(fixed.packed_masks()[name], bits) for name, bits in trained.packed_masks().items())
    assert not list(fixed.parameters()) and not list(read.parameters())


def test_gradients_reach_scores_and_prototype():
    part = masked_part(ADAPTER)
    own = part.own
    assert isinstance(own, TrainedMasks)
    shared = {name: tensor.requires_grad_() for name, tensor in prototype(ADAPTER).items()}
    effective = part.effective(shared, NOTHING_SHARED)
    torch.cat([tensor.flatten() for tensor in effective.per_slot.values()]).sum().backward()
    for tensor in ADAPTER.masked_tensors:
        scores = own.scores[tensor.name.replace(".", "_")]
        expected = shared[tensor.name].detach().expand(2, *tensor.shape) * scores.detach().sign()
        assert torch.equal(scores.grad, expected)
        assert torch.equal(shared[tensor.name].grad, own.masks()[tensor.name].detach().sum(dim=0))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PrototypeConfig(bottleneck=3), MaskedPart),
        (PrototypeConfig(bottleneck=3, masks="hybrid"), MaskedPart),
        (PrototypeConfig(bottleneck=3, masks="only-layers"), MaskedPart),
        (PrototypeConfig(bottleneck=3, masks="only-tasks"), MaskedPart),
        (PrototypeConfig(method="lora", rank=2), MaskedPart),
        (PrototypeConfig(method="prefix", prefix_length=2), MaskedPart),
        (PrototypeConfig(sharing="sparse", bottleneck=3), SparseWeights),
        (PrototypeConfig(method="prefix", sharing="sparse", prefix_length=2), SparseWeights),
        (PrototypeConfig(sharing="unshared", bottleneck=3), OwnWeights),
        (PrototypeConfig(method="lora", sharing="unshared", rank=2), OwnWeights),
        (PrototypeConfig(method="prefix", sharing="unshared", prefix_length=2), OwnPrefix),
        (PrototypeConfig(sharing="tasks", bottleneck=3), NothingOwn),
        (PrototypeConfig(method="prefix", sharing="tasks", prefix_length=2), NothingOwn),
        (PrototypeConfig(scope="stack", bottleneck=3), MaskedPart),
        (PrototypeConfig(method="head"), OwnWeights),
    ],
)
def test_each_method_has_its_part(config, kind):
    layout = layout_of(config, 8, 2, decoder_layers=1)
    part = new_task_part(layout)
    assert type(part) is kind
    masks, weights = part.packed_masks(), part.own_weights()
    assert {name: mask.shape for name, mask in masks.items()} == layout.mask_shapes()
    assert {name: tuple(weight.shape) for name, weight in weights.items()} == layout.weight_shapes()


def test_an_unshared_prefix_on_a_backbone_of_one_layer():
    part = new_task_part(layout_of(PrototypeConfig(method="prefix", sharing="unshared", prefix_length=2), 8, 1))
    assert part.own_weights()["prefix"].shape == (1, 2, 16)


def test_unshared_weights_are_used_as_they_are():
    layout = layout_of(PrototypeConfig(sharing="unshared", bottleneck=3), 7, 2)
    part = OwnWeights(layout)
    assert all(
        part.effective({}, NOTHING_SHARED).at(name, 1).equal(tensor[1]) for name, tensor in part.own_weights().items()
    )
    read = OwnWeights(layout, {name: tensor.detach().numpy() for name, tensor in part.own_weights().items()})
    assert all(read.own_weights()[name].equal(tensor) for name, tensor in part.own_weights().items())


def test_what_tasks_share_runs_as_it_is():
    layout = layout_of(PrototypeConfig(sharing="tasks", bottleneck=3), 7, 2)
    shared = new_prototype(layout).tensors()
    weights = read_task_part(layout, {}, {}).effective(shared, NOTHING_SHARED)
    for name, tensor in shared.items():
        assert all(torch.equal(weights.at(name, slot), tensor[slot]) for slot in range(2))


def test_each_prototype_runs_under_its_own_masks():
    config = PrototypeConfig(bottleneck=3, sparsity=0.3, masks="hybrid", combine="and", scope="stack")
    layout = layout_of(config, 7, 2, decoder_layers=3)
    prototype, shared, part = new_prototype(layout).tensors(), new_shared_masks(layout), new_task_part(layout)
    weights = part.effective(prototype, shared)
    assert isinstance(part, MaskedPart) and part.own is not None and shared.layers is not None
    for stack, slots in layout.prototypes.items():
        side = weights.of(stack)
        for name in ("down.weight", "up.weight"):
            layer, own = shared.layers.masks()[stack + name], part.own.masks()[stack + name]
            for slot in range(slots):
                assert torch.equal(side.at(name, slot), prototype[stack + name] * layer[slot] * own[0])
        assert side.at("up.bias", 0) is prototype[f"{stack}up.bias"]


def test_sparse_weights_are_the_tasks_own_under_masks():
    layout = layout_of(PrototypeConfig(sharing="sparse", bottleneck=3, sparsity=0.3), 7, 2)
    part = new_task_part(layout)
    for tensor in layout.masked_tensors:
        kept = part.own_weights()[tensor.name].flatten(1).ne(0).sum(dim=1)
        assert kept.tolist() == [kept_count(tensor.size, 0.3)] * 2
    read = read_task_part(layout, {}, {name: value.detach().numpy() for name, value in part.own_weights().items()})
    for tensor in layout.tensors:
        for slot in range(2):
            expected = part.effective({}, NOTHING_SHARED).at(tensor.name, slot)
            assert torch.equal(read.effective({}, NOTHING_SHARED).at(tensor.name, slot), expected)
    torch.cat([weight.flatten() for weight in part.own_weights().values()]).sum().backward()
    assert all(parameter.grad is not None for parameter in part.parameters())
