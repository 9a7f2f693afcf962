"""Hyper-parameters and the shapes that follow from them."""

import pytest

from propetl.errors import ConfigurationError
from propetl.prototypes.spec import PrototypeConfig, layout_of

H, L = 8, 3


ADAPTER = {"down.weight": (2, 8), "down.bias": (2,), "up.weight": (8, 2), "up.bias": (8,)}
BIASES = {"down.bias", "up.bias"}
LORA = {"query.a": (2, 8), "query.b": (8, 2), "value.a": (2, 8), "value.b": (8, 2)}


@pytest.mark.parametrize(
    ("config", "slots", "shapes", "unmasked"),
    [
        (PrototypeConfig(bottleneck=2), 3, ADAPTER, BIASES),
        (PrototypeConfig(bottleneck=2, sites=("attention", "ffn")), 6, ADAPTER, BIASES),
        (PrototypeConfig(method="lora", rank=2), 3, LORA, set()),
        (PrototypeConfig(method="lora", rank=4, targets=("key",)), 3, {"key.a": (4, 8), "key.b": (8, 4)}, set()),
        (PrototypeConfig(method="prefix", prefix_length=5), 3, {"prefix": (5, 16)}, set()),
        (PrototypeConfig(method="head"), 3, {}, set()),
        (PrototypeConfig(method="full"), 3, {}, set()),
    ],
)
def test_layouts(config, slots, shapes, unmasked):
    layout = layout_of(config, H, L)
    assert layout.slots == slots
    assert {tensor.name: tensor.shape for tensor in layout.tensors} == shapes == layout.prototype_shapes()
    assert {tensor.name for tensor in layout.tensors if not tensor.masked} == unmasked
    bytes_of = {name: -(-_size(shape) // 8) for name, shape in shapes.items() if name not in unmasked}
    assert layout.mask_shapes() == {name: (slots, count) for name, count in bytes_of.items()}
    assert layout.weight_shapes() == {}


def test_an_unshared_task_owns_every_tensor_at_every_slot():
    layout = layout_of(PrototypeConfig(sharing="unshared", bottleneck=2, sites=("attention", "ffn")), H, L)
    assert layout.weight_shapes() == {
        "down.weight": (6, 2, 8),
        "down.bias": (6, 2),
        "up.weight": (6, 8, 2),
        "up.bias": (6, 8),
    }
    assert layout.mask_shapes() == {} and layout.prototype_shapes() == {}


def _size(shape):
    return shape[0] * (shape[1] if len(shape) == 2 else 1)


def test_the_scale_of_lora_is_alpha_over_rank():
    assert PrototypeConfig(method="lora", rank=32, alpha=48.0).lora_scale == 1.5


@pytest.mark.parametrize(
    "config",
    [
        PrototypeConfig(),
        PrototypeConfig(method="lora", targets=("query", "key", "value"), alpha=3.5),
        PrototypeConfig(sites=("attention", "ffn"), sharing="unshared", sparsity=1.0),
    ],
)
def test_to_json_and_back(config):
    assert PrototypeConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method is one of adapter, lora, prefix, head, full; got 'magic'"),
        ({"sharing": "some"}, "sharing is one of masked, unshared; got 'some'"),
        ({"activation": "swish"}, "activation is one of"),
        ({"sparsity": 0.0}, "lies in"),
        ({"sparsity": -0.5}, "lies in"),
        ({"sparsity": 1.01}, "lies in"),
        ({"sparsity": float("nan")}, "lies in"),
        ({"bottleneck": 0}, "bottleneck must be a whole number of at least 1; got 0"),
        ({"rank": -1}, "rank must be"),
        ({"rank": 1.5}, "rank must be"),
        ({"prefix_length": True}, "prefix_length must be"),
        ({"prefix_hidden": "8"}, "prefix_hidden must be"),
        ({"sites": ("attention",)}, "sites is"),
        ({"sites": ("ffn", "attention")}, "sites is"),
        ({"sites": ()}, "sites is"),
        ({"targets": ()}, "targets are among"),
        ({"targets": ("query", "output")}, "targets are among"),
        ({"targets": ("query", "query")}, "targets: each once"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": 0.0}, "alpha"),
    ],
)
def test_values_that_make_no_sense(changes, message):
    with pytest.raises(ConfigurationError, match=message) as caught:
        PrototypeConfig(**changes)
    assert "\n" not in str(caught.value)


def test_an_unknown_key():
    with pytest.raises(ConfigurationError, match="unknown key 'width'; known: method, sharing"):
        PrototypeConfig.from_json({"width": 3})
