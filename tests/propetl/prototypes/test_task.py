"""What a task owns: masks or weights."""

import numpy as np
import pytest
import torch

from propetl.bits import unpack
from propetl.masks import kept_count
from propetl.prototypes.spec import PrototypeConfig, layout_of
from propetl.prototypes.task import FixedMasks, OwnPrefix, OwnWeights, TrainedMasks, new_task_part

ADAPTER = layout_of(PrototypeConfig(bottleneck=3, sparsity=0.3), 7, 2)


def prototype(layout):
    generator = torch.Generator().manual_seed(0)
    return {tensor.name: torch.randn(tensor.shape, generator=generator) for tensor in layout.tensors}


def test_what_runs_is_the_prototype_times_the_mask():
    part, shared = TrainedMasks(ADAPTER), prototype(ADAPTER)
    effective, packed = part.effective(shared), part.packed_masks()
    for tensor in ADAPTER.masked_tensors:
        mask = unpack(packed[tensor.name], tensor.size).reshape(2, *tensor.shape)
        assert mask.reshape(2, -1).sum(axis=1).tolist() == [kept_count(tensor.size, 0.3)] * 2
        for slot in range(2):
            expected = shared[tensor.name].numpy() * mask[slot]
            assert np.array_equal(effective.at(tensor.name, slot).detach().numpy(), expected)
    assert effective.at("up.bias", 1) is shared["up.bias"]


def test_masks_read_back_are_the_masks_that_trained():
    trained, shared = TrainedMasks(ADAPTER), prototype(ADAPTER)
    fixed = FixedMasks(ADAPTER, trained.packed_masks())
    for name, tensor in trained.effective(shared).per_slot.items():
        assert torch.equal(fixed.effective(shared).per_slot[name], tensor)
    assert all(np.array_equal(fixed.packed_masks()[name], bits) for name, bits in trained.packed_masks().items())
    assert not list(fixed.parameters())


def test_gradients_reach_scores_and_prototype():
    part = TrainedMasks(ADAPTER)
    shared = {name: tensor.requires_grad_() for name, tensor in prototype(ADAPTER).items()}
    torch.cat([tensor.flatten() for tensor in part.effective(shared).per_slot.values()]).sum().backward()
    for tensor in ADAPTER.masked_tensors:
        scores = part.scores[tensor.name.replace(".", "_")]
        expected = shared[tensor.name].detach().expand(2, *tensor.shape) * scores.detach().sign()
        assert torch.equal(scores.grad, expected)
        assert torch.equal(shared[tensor.name].grad, part.masks()[tensor.name].detach().sum(dim=0))


@pytest.mark.parametrize(
    ("config", "kind"),
    [
        (PrototypeConfig(bottleneck=3), TrainedMasks),
        (PrototypeConfig(method="lora", rank=2), TrainedMasks),
        (PrototypeConfig(method="prefix", prefix_length=2), TrainedMasks),
        (PrototypeConfig(sharing="unshared", bottleneck=3), OwnWeights),
        (PrototypeConfig(method="lora", sharing="unshared", rank=2), OwnWeights),
        (PrototypeConfig(method="prefix", sharing="unshared", prefix_length=2), OwnPrefix),
        (PrototypeConfig(method="head"), OwnWeights),
    ],
)
def test_each_method_has_its_part(config, kind):
    layout = layout_of(config, 8, 2)
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
    assert all(part.effective({}).at(name, 1).equal(tensor[1]) for name, tensor in part.own_weights().items())
    read = OwnWeights(layout, {name: tensor.detach().numpy() for name, tensor in part.own_weights().items()})
    assert all(read.own_weights()[name].equal(tensor) for name, tensor in part.own_weights().items())
