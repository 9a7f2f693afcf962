"""Keys, defaults and refusals of the configuration."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.errors import ConfigurationError
from propetl.prototypes.spec import PrototypeConfig
from propetl.training.config import TrainConfig
from propetl.training.config_file import config_from

NEEDED = {"backbone": "some/model", "tasks": ["rte", "mrpc"], "data": "data", "output": "run"}


def refusal(overrides):
    with pytest.raises(ConfigurationError) as error:
        config_from(NEEDED, overrides, "c.yaml")
    message = str(error.value)
    assert message.startswith("c.yaml: ")
    assert "\n" not in message
    return message


@pytest.mark.parametrize(
    ("method", "rate", "score_rate", "sparsity"),
    [
        ("adapter", 1e-4, 3e-3, 0.5),
        ("lora", 1e-4, 3e-2, 0.1),
        ("prefix", 1e-4, 1e-4, 0.1),
        ("ia3", 3e-3, 3e-3, 0.5),
        ("head", 1e-3, 1e-3, 0.5),
        ("full", 2e-5, 2e-5, 0.5),
    ],
)
def test_rates_and_sparsity_follow_the_method(method, rate, score_rate, sparsity):
    config = config_from(NEEDED, {"prototype.method": method}, "")
    assert (config.rate, config.score_rate, config.prototype.sparsity) == (rate, score_rate, sparsity)


def test_given_rates_and_sparsity_win():
    given_values = {
        "prototype": {"method": "lora", "sparsity": 0.7},
        "learning_rate": 0.2,
        "score_learning_rate": "3e-1",  # what YAML 1.1 makes of 3e-1
    }
    config = config_from({**NEEDED, **given_values}, {}, "")
    assert (config.rate, config.score_rate, config.prototype.sparsity) == (0.2, 0.3, 0.7)


@pytest.mark.parametrize("tasks", [["rte", "mrpc"], {"rte": None, "mrpc": None}])
def test_tasks_as_list_and_as_mapping(tasks):
    assert config_from({**NEEDED, "tasks": tasks}, {}, "").tasks == {"rte": None, "mrpc": None}


def test_one_task_may_stand_alone():
    assert config_from({**NEEDED, "tasks": "rte"}, {}, "").tasks == {"rte": None}


def test_json_gives_the_same_configuration_back():
    overrides = {"prototype.sites": ["attention", "ffn"], "tasks": {"own": {"columns": ["a", "b"]}}, "dropout": 0}
    config = config_from(NEEDED, overrides, "")
    assert TrainConfig.model_validate(json.loads(json.dumps(config.to_json()))) == config


def test_cannot_be_changed():
    config = config_from(NEEDED, {}, "")
    with pytest.raises(ValueError, match="frozen"):
        config.seed = 3


@pytest.mark.parametrize("key", sorted(NEEDED))
def test_a_missing_key_is_named(key):
    with pytest.raises(ConfigurationError, match=f"^c.yaml: {key} is missing"):
        config_from({name: value for name, value in NEEDED.items() if name != key}, {}, "c.yaml")


@pytest.mark.parametrize(
    ("overrides", "parts"),
    [
        ({"learning_rat": 1}, ["'learning_rat'", "did you mean 'learning_rate'"]),
        ({"qqq": 1}, ["'qqq'", "known: backbone, "]),
        ({"prototype.botleneck": 4}, ["prototype", "'botleneck'", "bottleneck"]),
        ({"prototype.sparsity": 0}, ["sparsity", "(0, 1]", "0"]),
        ({"prototype.sparsity": "much"}, ["prototype.sparsity", "'much'"]),
        ({"prototype.method": "adaptor"}, ["prototype.method", "'adapter'", "'adaptor'"]),
        ({"prototype.method": ["adapter"]}, ["prototype.method"]),
        ({"prototype": 7}, ["prototype", "7"]),
        ({"prototype.bottleneck": 2.5}, ["prototype.bottleneck", "2.5"]),
        ({"tasks": []}, ["tasks"]),
        ({"tasks": ["rte", "rte"]}, ["tasks", "once"]),
        ({"tasks": [{"rte": None}]}, ["tasks", "name: definition"]),
        ({"tasks": {"rte": 3}}, ["tasks.rte", "3"]),
        ({"epochs": 0}, ["epochs", "greater than 0"]),
        ({"learning_rate": "nan"}, ["learning_rate", "finite"]),
        ({"learning_rate": -1}, ["learning_rate", "-1"]),
        ({"precision": "fp8"}, ["precision", "'bf16'", "'fp8'"]),
        ({"dropout": 1}, ["dropout", "less than 1"]),
        ({"seed": -1}, ["seed"]),
        ({"batch_size": "many"}, ["batch_size", "'many'"]),
        ({"device": "tpu"}, ["device", "'tpu'"]),
        ({"output": None}, ["output"]),
    ],
)
def test_a_wrong_value_is_one_line_with_its_key(overrides, parts):
    message = refusal(overrides)
    assert all(part in message for part in parts), message


@given(
    sparsity=st.floats(0.01, 1),
    bottleneck=st.integers(1, 512),
    seed=st.integers(0, 2**32 - 1),
    head=st.sampled_from(["linear", "own"]),
)
def test_overrides_replace_just_their_keys(sparsity, bottleneck, seed, head):
    overrides = {"prototype.sparsity": sparsity, "prototype.bottleneck": bottleneck, "seed": seed, "head": head}
    config = config_from({**NEEDED, "prototype": {"activation": "gelu", "bottleneck": 3}}, overrides, "")
    assert config.prototype == PrototypeConfig(sparsity=sparsity, bottleneck=bottleneck, activation="gelu")
    assert (config.seed, config.head, config.batch_size) == (seed, head, 32)
