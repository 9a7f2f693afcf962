"""The family table against transformers' own modules."""

import pytest
from torch import nn

from propetl.errors import ConfigurationError
from propetl.families import FAMILIES, family_of


def test_a_family_is_known_by_its_model_type(backbone):
    assert backbone.model.config.model_type == backbone.family.name == backbone.info.family
    assert family_of(backbone.family.name) is backbone.family


def test_every_path_leads_to_the_module_it_is_named_for(backbone):
    family, width = backbone.family, backbone.info.hidden_size
    layers = backbone.model.get_submodule(family.layers)
    assert len(layers) == backbone.info.layers
    for layer in layers:
        for place in (family.attention, family.ffn):
            norm = layer.get_submodule(place.layer_norm)
            assert isinstance(norm, nn.LayerNorm) and norm.normalized_shape == (width,)
            layer.get_submodule(place.output)
            layer.get_submodule(place.residual)
        assert set(family.projections) == {"query", "key", "value"}
        projections = [layer.get_submodule(path) for path in family.projections.values()]
        assert all(isinstance(one, nn.Linear) and one.weight.shape == (width, width) for one in projections)
        assert len({id(one) for one in projections}) == 3
        layer.get_submodule(family.self_attention)


def test_token_types_are_taken_where_they_say_something(backbone, text):
    """Families that do not take them have no table of types, or one of a single row."""
    tables = [module for name, module in backbone.model.named_modules() if name.endswith("token_type_embeddings")]
    assert backbone.family.takes_token_types == any(table.num_embeddings > 1 for table in tables)


def test_the_head_activation_is_that_of_the_familys_own_classifier(backbone):
    """ELECTRA's uses GELU, DistilBERT's ReLU, the others tanh."""
    expected = {"electra": "gelu", "distilbert": "relu"}
    assert backbone.family.head_activation == expected.get(backbone.family.name, "tanh")


@pytest.mark.parametrize("name", ["gpt2", "", "t5"])
def test_an_unknown_family(name):
    with pytest.raises(ConfigurationError) as caught:
        family_of(name)
    assert all(family in str(caught.value) for family in FAMILIES) and repr(name) in str(caught.value)
