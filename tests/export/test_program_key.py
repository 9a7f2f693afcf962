"""Two programs have one key only if the tracer makes one graph of them."""

import dataclasses

import pytest
import torch

from propetl.export.layouts import ROW, TOKEN
from propetl.export.program import BareProgram, Program, RowsProgram
from propetl.export.program_key import program_key, weights_of
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import Case, random_bundle

HYBRID = PrototypeConfig(bottleneck=3, sparsity=0.4, masks="hybrid")
CASE = Case("bert", HYBRID, layers=1, tasks={"two": 2})


def model_of(folder, case, merge=False):
    backbone, bundle = random_bundle(folder, case)
    return ProPETLModel.from_bundle(bundle, backbone, merge=merge)


@pytest.fixture(scope="module")
def model(tmp_path_factory):
    return model_of(tmp_path_factory.mktemp("first"), CASE)


@pytest.mark.parametrize(
    "change",
    [
        {"config": dataclasses.replace(HYBRID, combine="and")},
        {"config": dataclasses.replace(HYBRID, activation="gelu")},
        {"config": dataclasses.replace(HYBRID, sites=("attention", "ffn"))},
        {"config": dataclasses.replace(HYBRID, masks="layer")},
        {"config": PrototypeConfig("lora", rank=3, alpha=4.5)},
        {"head": "own"},
        {"hidden": 16},
        {"layers": 2},
        {"family": "roberta"},
    ],
    ids=lambda change: "-".join(map(str, change)),
)
def test_another_model(tmp_path, model, change):
    other = model_of(tmp_path, dataclasses.replace(CASE, **change))
    assert program_key(Program(other), 20) != program_key(Program(model), 20)


def test_another_scale_of_lora(tmp_path):
    """It is a number in the hooks, in no module."""
    cases = [Case("bert", PrototypeConfig("lora", rank=3, alpha=alpha), layers=1) for alpha in (3.0, 6.0)]
    models = [model_of(tmp_path / str(number), case) for number, case in enumerate(cases)]
    assert program_key(Program(models[0]), 20) != program_key(Program(models[1]), 20)


def test_a_merged_method(tmp_path):
    case = Case("bert", PrototypeConfig("lora", rank=3, alpha=3.0), layers=1)
    models = [model_of(tmp_path / str(merge), case, merge) for merge in (False, True)]
    assert program_key(Program(models[0]), 20) != program_key(Program(models[1]), 20)


def test_another_program_or_argument(model):
    programs = [Program(model, at=ROW), Program(model, at=TOKEN), RowsProgram(model, at=ROW), BareProgram(model)]
    keys = {program_key(program, opset) for program in programs for opset in (18, 20)}
    assert len(keys) == 8


@pytest.mark.parametrize("attribute", ["layer_norm_eps", "num_attention_heads"])
def test_a_setting_of_the_backbone_that_no_module_prints(model, attribute):
    key, config = program_key(Program(model), 20), model.network.config
    before = getattr(config, attribute)
    setattr(config, attribute, before * 2)
    try:
        assert program_key(Program(model), 20) != key
    finally:
        setattr(config, attribute, before)


def test_a_hook_more(model):
    key = program_key(Program(model), 20)
    handle = model.network.register_forward_hook(lambda *call: None)
    try:
        assert program_key(Program(model), 20) != key
    finally:
        handle.remove()


def test_values_tasks_and_places_do_not_count(tmp_path, model):
    other = model_of(tmp_path, dataclasses.replace(CASE, tasks={"three": 3, "value": 0}))
    assert program_key(Program(other), 20) == program_key(Program(model), 20)
    mine, theirs = weights_of(Program(model)), weights_of(Program(other))
    assert mine.keys() == theirs.keys() and any(not torch.equal(mine[name], theirs[name]) for name in mine)
