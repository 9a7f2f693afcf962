"""Two programs have one key only if the tracer makes one graph of them."""

import dataclasses

import pytest
import torch

import propetl.runtime
from propetl.backbone import load_backbone
from propetl.export.foreign_code import has_foreign_code
from propetl.export.layouts import ROW, TOKEN
from propetl.export.program import BareProgram, Program, RowsProgram
from propetl.export.program_key import _source_files, program_key, weights_of
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import Case, random_bundle
from tests.tiny_backbone import tiny_backbone

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


@pytest.mark.parametrize("family", ["gpt2", "t5", "bart"])
def test_a_head_that_is_not_the_embedding(tmp_path, family):
    """transformers reads such weights whatever ``tie_word_embeddings`` says; a graph of tied ones names only one."""
    models = []
    for own in (False, True):
        path = tiny_backbone(tmp_path / str(own), family, hidden=24, layers=1, own_head=own)
        models.append(ProPETLModel(load_backbone(str(path)), HYBRID))
    assert len({model.network.config.tie_word_embeddings for model in models}) == 1
    assert program_key(Program(models[0]), 20) != program_key(Program(models[1]), 20)


@pytest.mark.parametrize(
    ("path", "name", "value"),
    [
        ("encoder.layer.0.attention.self", "scaling", 3.5),
        ("encoder.layer.0.attention.self", "is_causal", True),
    ],
)
def test_an_attribute_of_a_module(model, monkeypatch, path, name, value):
    """It is neither in the configuration nor in what the module prints."""
    key, module = program_key(Program(model), 20), model.network.get_submodule(path)
    assert getattr(module, name) != value
    monkeypatch.setattr(module, name, value)
    assert program_key(Program(model), 20) != key


def test_sources_of_the_runtime_count():
    """A checkout has that package behind a link, which a search from the top does not follow."""
    names = [file.name for file in _source_files() if file.is_relative_to(propetl.runtime.__path__[0])]
    assert "signatures.py" in names


class Doubled(torch.nn.LayerNorm):
    def forward(self, hidden):
        return 2 * super().forward(hidden)


def test_code_of_others_is_seen(model, monkeypatch):
    """No version and no source of it is in the key."""
    layer = model.network.encoder.layer[0]
    assert not has_foreign_code(model)
    with monkeypatch.context() as patch:
        patch.setattr(layer.output, "forward", lambda *call: call[0])
        assert has_foreign_code(model)
    with monkeypatch.context() as patch:
        patch.setattr(layer.output, "LayerNorm", Doubled(24))
        assert has_foreign_code(model)
    handle = layer.register_forward_hook(lambda module, arguments, output: output)
    assert has_foreign_code(model)
    handle.remove()
    assert not has_foreign_code(model)


@pytest.mark.parametrize("method", ["lora", "prefix", "ia3"])
@pytest.mark.parametrize("family", ["mpnet", "bert"])
def test_no_method_counts_as_foreign(tmp_path, family, method):
    assert not has_foreign_code(model_of(tmp_path, Case(family, PrototypeConfig(method), layers=1)))
