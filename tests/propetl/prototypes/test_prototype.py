"""The shared prototype as a module."""

import pytest
import torch

from propetl.prototypes.layout import layout_of
from propetl.prototypes.prototype import PrefixPrototype, TensorPrototype, initial_values, new_prototype
from propetl.prototypes.spec import PrototypeConfig

METHODS = ["adapter", "lora", "prefix", "head", "full"]


def layout(method, sharing="masked", scope="model"):
    config = PrototypeConfig(method, sharing, scope, bottleneck=3, rank=2, prefix_length=4)
    return layout_of(config, 8, 2, decoder_layers=1)


@pytest.mark.parametrize("made", [("masked",), ("masked", "stack"), ("tasks",)], ids="-".join)
@pytest.mark.parametrize("method", METHODS)
def test_a_new_prototype_has_the_tensors_of_its_layout(method, made):
    tensors = new_prototype(layout(method, *made)).tensors()
    assert {name: tuple(tensor.shape) for name, tensor in tensors.items()} == layout(method, *made).prototype_shapes()
    assert all(tensor.requires_grad for tensor in tensors.values())


def test_the_prefixes_of_encoder_and_decoder_have_an_mlp_each():
    prototype = new_prototype(layout("prefix", scope="stack"))
    prototype.tensors()["decoder.prefix"].sum().backward()
    trained = {name for name, parameter in prototype.named_parameters() if parameter.grad is not None}
    assert trained and all("decoder_prefix" in name for name in trained)


@pytest.mark.parametrize("method", METHODS)
def test_unshared_methods_share_nothing(method):
    prototype = new_prototype(layout(method, "unshared"))
    assert prototype.tensors() == {} and not list(prototype.parameters())


def test_only_a_prefix_in_training_goes_through_an_mlp():
    assert isinstance(new_prototype(layout("prefix")), PrefixPrototype)
    assert isinstance(new_prototype(layout("adapter")), TensorPrototype)


def test_tensors_are_the_parameters_that_train():
    prototype = TensorPrototype({"down.weight": torch.randn(2, 3), "up.weight": torch.randn(3, 2)})
    assert {id(tensor) for tensor in prototype.tensors().values()} == {id(each) for each in prototype.parameters()}


def test_a_fresh_branch_adds_nothing_and_biases_are_zero():
    for name in ("query.b", "decoder.value.b", "down.bias", "encoder.up.bias"):
        assert not initial_values(name, (4, 3)).any()


def test_the_rest_starts_at_random():
    torch.manual_seed(0)
    a = initial_values("query.a", (50, 64))
    assert a.abs().max() <= 64**-0.5 and a.std().item() == pytest.approx(64**-0.5 / 3**0.5, rel=0.05)
    assert initial_values("down.weight", (50, 64)).std().item() == pytest.approx(0.02, rel=0.05)
