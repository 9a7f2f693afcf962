"""The shared prototype as a module."""

import pytest
import torch

from propetl.prototypes.layout import layout_of
from propetl.prototypes.prefix.reparametrisation import PrefixPrototype
from propetl.prototypes.prototype import TensorPrototype, drawn, new_prototype
from propetl.prototypes.registry import METHODS
from propetl.prototypes.spec import PrototypeConfig
from propetl.prototypes.task import new_task_part


def layout(method, sharing="masked", scope="model"):
    config = PrototypeConfig(method, sharing, scope, bottleneck=3, rank=2, prefix_length=4)
    return layout_of(config, 8, 2, decoder_layers=1, ffn_size=10)


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
    fresh = {**new_prototype(layout("lora")).tensors(), **new_prototype(layout("adapter", scope="stack")).tensors()}
    zero = {name for name, tensor in fresh.items() if not tensor.any()}
    biases = {f"{stack}.{name}.bias" for stack in ("encoder", "decoder") for name in ("down", "up")}
    assert zero == {"query.b", "value.b", *biases}


@pytest.mark.parametrize("sharing", ["masked", "tasks", "unshared"])
@pytest.mark.parametrize("method", METHODS)
def test_what_a_method_says_is_how_its_tensors_start(method, sharing):
    """Also at every slot, and as a task's own; the MLP of a prefix starts by its own rule."""
    found = layout(method, sharing)
    made = {**new_prototype(found).tensors(), **new_task_part(found).own_weights()}
    for tensor in found.tensors:
        kind, value = tensor.initial
        if kind == "constant":
            assert torch.equal(made[tensor.name], torch.full_like(made[tensor.name], value))
        else:
            assert made[tensor.name].std() > 0


def test_what_is_drawn():
    torch.manual_seed(0)
    uniform = drawn(("uniform", 1.0), (50, 64))
    assert uniform.abs().max() <= 64**-0.5 and uniform.std().item() == pytest.approx(64**-0.5 / 3**0.5, rel=0.05)
    assert drawn(("normal", 0.02), (50, 64)).std().item() == pytest.approx(0.02, rel=0.05)
    assert torch.equal(drawn(("constant", 0.5), (2, 3)), torch.full((2, 3), 0.5))
