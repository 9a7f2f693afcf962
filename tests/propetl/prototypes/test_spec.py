"""Hyper-parameters: those that make sense, and those that do not."""

import pytest

from propetl.errors import ConfigurationError
from propetl.prototypes.spec import PrototypeConfig


@pytest.mark.parametrize(("languages", "named"), [((), "de"), (("de",), None), (("de",), "en")])
def test_a_task_names_a_language_that_has_masks(languages, named):
    config = PrototypeConfig(masks="hybrid", languages=languages)
    with pytest.raises(ConfigurationError, match=f"task 'mood': its language is {named!r}, and the prototype has"):
        config.check_language("mood", named)
    PrototypeConfig(masks="hybrid", languages=("de", "en")).check_language("mood", "en")
    PrototypeConfig().check_language("mood", None)


def test_the_scale_of_lora_is_alpha_over_rank():
    assert PrototypeConfig(method="lora", rank=32, alpha=48.0).lora_scale == 1.5


@pytest.mark.parametrize(
    "config",
    [
        PrototypeConfig(),
        PrototypeConfig(method="lora", targets=("query", "key", "value"), alpha=3.5),
        PrototypeConfig(sites=("attention", "ffn"), sharing="unshared", sparsity=1.0),
        PrototypeConfig(masks="hybrid", combine="and", languages=("de", "en")),
        PrototypeConfig(scope="stack"),
    ],
)
def test_to_json_and_back(config):
    assert PrototypeConfig.from_json(config.to_json()) == config


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"method": "magic"}, "method is one of adapter, lora, prefix, ia3, head, full; got 'magic'"),
        ({"sharing": "some"}, "sharing is one of masked, unshared, sparse, tasks; got 'some'"),
        ({"scope": "layer"}, "scope is one of model, stack; got 'layer'"),
        ({"scope": "stack", "sharing": "unshared"}, "scope: stack is of a prototype, so sharing: masked"),
        ({"masks": "hybrid", "sharing": "tasks"}, "masks: hybrid needs one prototype, so sharing: masked; got tasks"),
        ({"masks": "some"}, "masks is one of layer, hybrid, only-layers, only-tasks; got 'some'"),
        ({"combine": "xor"}, "combine is one of or, and, add; got 'xor'"),
        ({"masks": "hybrid", "sharing": "unshared"}, "masks: hybrid needs one prototype, so sharing: masked"),
        ({"languages": ("de",)}, "languages need masks: hybrid; got masks: layer"),
        ({"languages": ("d.e",), "masks": "hybrid"}, r"languages: 1-32 of a-z"),
        ({"languages": ("de", "de"), "masks": "hybrid"}, "languages: each once; got de, de"),
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
