"""The family table against transformers' own modules."""

import json
from dataclasses import replace

import pytest
from torch import nn

from propetl.backbone import load_backbone
from propetl.errors import ConfigurationError
from propetl.families import FAMILIES, family_of, register_family
from tests.tiny_backbone import tiny_backbone


def test_a_family_is_known_by_its_model_type(backbone):
    assert backbone.model.config.model_type == backbone.family.name == backbone.info.family
    assert family_of(backbone.family.name) is backbone.family


@pytest.mark.parametrize("name", FAMILIES)
def test_every_path_leads_to_the_module_it_is_named_for(backbones, name):
    backbone = backbones[name]
    info = backbone.info
    depths = []
    for stack in backbone.family.stacks:
        layers = backbone.model.get_submodule(stack.layers)
        depths.append(len(layers))
        for layer in layers:
            for place in (stack.attention, stack.ffn):
                if place.layer_norm is not None:
                    norm = layer.get_submodule(place.layer_norm)
                    assert isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (info.hidden_size,)
                layer.get_submodule(place.output)
                layer.get_submodule(place.residual)
            last = layer.get_submodule(stack.ffn_out)
            rows, columns = last.weight.shape if isinstance(last, nn.Linear) else last.weight.T.shape
            assert (rows, columns) == (info.hidden_size, info.ffn_size)
            for attention in stack.attentions:
                layer.get_submodule(attention.module)
                _check_projections(layer, attention, info)
    assert depths == [info.layers, info.decoder_layers][: len(depths)]


def _check_projections(layer, attention, info):
    queries = info.query_size or info.hidden_size
    widths = {"query": queries, "key": info.key_value_size or queries, "value": info.key_value_size or queries}
    assert set(attention.projections) == set(widths)
    places = set()
    for kind, place in attention.projections.items():
        module = layer.get_submodule(place.path)
        rows, columns = module.weight.shape if isinstance(module, nn.Linear) else module.weight.T.shape
        assert (rows, columns) == (widths[kind] * place.parts, info.hidden_size)
        places.add((id(module), place.part))
    assert len(places) == 3


@pytest.mark.parametrize("name", FAMILIES)
def test_what_a_family_is_made_of(backbones, name):
    family = FAMILIES[name]
    attends = [len(stack.attentions) for stack in family.stacks]
    assert attends == {"encoder": [1], "encoder-decoder": [1, 2], "decoder": [1]}[family.kind]
    assert family.generates == hasattr(backbones[name].model, "lm_head")


def test_token_types_are_taken_where_they_say_something(backbone, text):
    """Families that do not take them have no table of types, or one of a single row."""
    tables = [module for name, module in backbone.model.named_modules() if name.endswith("token_type_embeddings")]
    assert backbone.family.takes_token_types == any(table.num_embeddings > 1 for table in tables)


def test_the_head_activation_is_that_of_the_familys_own_classifier(backbone):
    """ELECTRA's uses GELU, DistilBERT's ReLU, the others tanh."""
    expected = {"electra": "gelu", "distilbert": "relu"}
    assert backbone.family.head_activation == expected.get(backbone.family.name, "tanh")


@pytest.mark.parametrize("name", ["modernbert", "", "T5"])
def test_an_unknown_family(name):
    with pytest.raises(ConfigurationError) as caught:
        family_of(name)
    assert all(family in str(caught.value) for family in FAMILIES) and repr(name) in str(caught.value)


@pytest.fixture
def families(monkeypatch):
    """What is registered is known for one test."""
    monkeypatch.setattr("propetl.families.FAMILIES", dict(FAMILIES))


def test_a_family_from_outside_is_loaded_like_ours(families, tmp_path, monkeypatch):
    """CamemBERT's configuration calls itself another type than RoBERTa's, and its modules are the same."""
    folder = tiny_backbone(tmp_path / "backbone", "roberta")
    config = json.loads((folder / "config.json").read_text()) | {"model_type": "camembert"}
    (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(ConfigurationError, match="family 'camembert' is not supported"):
        load_backbone(str(folder))
    register_family(replace(FAMILIES["roberta"], name="camembert"))
    found = load_backbone(str(folder))
    assert found.info.family == "camembert"
    assert found.info.fingerprint == load_backbone(str(tiny_backbone(tmp_path / "same", "roberta"))).info.fingerprint


def test_a_name_is_registered_once(families):
    other = replace(FAMILIES["roberta"], head_activation="relu")
    register_family(FAMILIES["roberta"])
    with pytest.raises(ConfigurationError, match="'roberta' is known already, with other paths"):
        register_family(other)


def test_an_installed_package_brings_families(families, tmp_path, monkeypatch):
    """By an entry point, as pip leaves it."""
    (tmp_path / "brought.py").write_text(
        "from dataclasses import replace\n"
        "from propetl import families\n"
        "CAMEMBERT = replace(families.FAMILIES['roberta'], name='camembert')\nNONE = 3\n"
    )
    info = tmp_path / "brought-1.0.dist-info"
    info.mkdir()
    (info / "METADATA").write_text("Metadata-Version: 2.1\nName: brought\nVersion: 1.0\n")
    (info / "entry_points.txt").write_text("[propetl.families]\ncamembert = brought:CAMEMBERT\n")
    monkeypatch.syspath_prepend(tmp_path)
    assert family_of("camembert").stacks == FAMILIES["roberta"].stacks
    (info / "entry_points.txt").write_text("[propetl.families]\nnone = brought:NONE\n")
    with pytest.raises(ConfigurationError, match=r"brought:NONE of an installed package is no propetl\.Family"):
        family_of("flaubert")
    (info / "entry_points.txt").write_text("[propetl.families]\nnone = brought:MISSING\n")
    with pytest.raises(ConfigurationError, match="brought:MISSING of an installed package cannot be loaded"):
        family_of("flaubert")
