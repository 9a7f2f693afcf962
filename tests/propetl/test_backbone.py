"""Loading backbones, and telling one from another."""

import json
import shutil
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from propetl.backbone import fingerprint, load_backbone, load_backbone_of
from propetl.errors import BundleError, ConfigurationError
from tests.tiny_backbone import tiny_backbone


@pytest.fixture(scope="module")
def folder(tmp_path_factory):
    return tiny_backbone(tmp_path_factory.mktemp("backbone") / "bert")


@pytest.fixture
def copy(folder, tmp_path):
    return Path(shutil.copytree(folder, tmp_path / "copy"))


def change_weights(folder, change):
    path = folder / "model.safetensors"
    weights = load_file(path)
    change(weights)
    save_file(weights, path, {"format": "pt"})


def refused(name):
    with pytest.raises(ConfigurationError) as caught:
        load_backbone(str(name))
    message = str(caught.value)
    assert "\n" not in message and repr(str(name)) in message
    return message


def test_it_is_frozen_and_without_pooler(backbone):
    assert not any(parameter.requires_grad for parameter in backbone.model.parameters())
    assert not backbone.model.training and backbone.model.dtype == torch.float32
    assert not any("pooler" in name for name in backbone.model.state_dict())


def test_its_description(backbone):
    info = backbone.info
    assert (info.hidden_size, info.layers, info.revision) == (32, 2, None)
    assert info.parameters == sum(parameter.numel() for parameter in backbone.model.parameters())
    assert len(info.fingerprint) == 64


def test_a_pretrained_pooler_is_kept_apart(backbones, folder):
    weights = load_file(folder / "model.safetensors")
    assert torch.equal(backbones["bert"].pooler["weight"], weights["pooler.dense.weight"])
    assert torch.equal(backbones["bert"].pooler["bias"], weights["pooler.dense.bias"])
    assert backbones["distilbert"].pooler is None and backbones["electra"].pooler is None


def test_a_pooler_that_was_never_trained_is_not_kept(copy, folder):
    """transformers would make one up at random."""
    change_weights(copy, lambda weights: [weights.pop(name) for name in list(weights) if "pooler" in name])
    backbone = load_backbone(str(copy))
    assert backbone.pooler is None
    assert backbone.info.fingerprint == load_backbone(str(folder)).info.fingerprint


def test_the_tokenizer_is_files(bert):
    assert set(bert.tokenizer_files) >= {"tokenizer.json", "tokenizer_config.json"}
    assert bert.pad_token_id == 0


class TestFingerprint:
    def test_of_the_same_weights_is_the_same(self, copy, folder):
        assert load_backbone(str(copy)).info.fingerprint == load_backbone(str(folder)).info.fingerprint

    def test_does_not_depend_on_how_weights_are_stored(self, copy, folder):
        change_weights(
            copy, lambda weights: weights.update({name: tensor.double() for name, tensor in weights.items()})
        )
        assert load_backbone(str(copy)).info.fingerprint == load_backbone(str(folder)).info.fingerprint

    def test_of_any_other_weight_is_another(self, folder):
        model = load_backbone(str(folder)).model
        seen = {fingerprint(model)}
        for name, parameter in model.named_parameters():
            with torch.no_grad():
                parameter.view(-1)[-1] += 1e-3
            seen.add(fingerprint(model))
            assert name
        assert len(seen) == 1 + len(list(model.parameters()))

    def test_depends_on_names_and_shapes(self):
        class One(torch.nn.Module):
            def __init__(self, name, shape):
                super().__init__()
                self.register_parameter(name, torch.nn.Parameter(torch.ones(shape)))

        assert len({fingerprint(One(*each)) for each in (("a", (2, 3)), ("b", (2, 3)), ("a", (3, 2)))}) == 3

    def test_a_bundle_finds_its_backbone(self, folder):
        info = load_backbone(str(folder)).info
        assert load_backbone_of(info).info == info

    def test_a_backbone_that_moved(self, copy, folder):
        info = load_backbone(str(folder)).info
        assert load_backbone_of(info, str(copy)).info.fingerprint == info.fingerprint

    def test_another_backbone_is_refused(self, copy, folder):
        info = load_backbone(str(folder)).info
        change_weights(copy, lambda weights: weights["embeddings.word_embeddings.weight"].add_(1))
        with pytest.raises(
            BundleError, match=rf"has fingerprint .* but the bundle was trained on {info.fingerprint[:12]}"
        ):
            load_backbone_of(info, str(copy))


class TestRefused:
    def test_a_folder_that_is_not_there(self, tmp_path):
        refused(tmp_path / "nothing")

    def test_an_empty_folder(self, tmp_path):
        refused(tmp_path)

    def test_a_family_that_is_not_supported(self, copy):
        change_config(copy, {"model_type": "opt"})
        with pytest.raises(ConfigurationError, match="'opt' is not supported"):
            load_backbone(str(copy))

    def test_a_model_type_nobody_knows(self, copy):
        change_config(copy, {"model_type": "magic"})
        refused(copy)

    def test_a_configuration_that_is_not_json(self, copy):
        (copy / "config.json").write_text("{")
        refused(copy)

    def test_weights_that_are_truncated(self, copy):
        path = copy / "model.safetensors"
        path.write_bytes(path.read_bytes()[:-100])
        refused(copy)

    def test_weights_that_are_none(self, copy):
        (copy / "model.safetensors").write_bytes(b"not weights")
        refused(copy)

    def test_weights_that_are_missing(self, copy):
        (copy / "model.safetensors").unlink()
        refused(copy)

    def test_weights_that_lack_a_layer(self, copy):
        lost = "encoder.layer.1.output.dense.weight"
        change_weights(copy, lambda weights: weights.pop(lost))
        assert f"lack {lost!r}" in refused(copy)

    def test_weights_of_another_size(self, copy):
        change_config(copy, {"intermediate_size": 48})
        refused(copy)

    def test_no_tokenizer(self, copy):
        for path in copy.glob("tokenizer*"):
            path.unlink()
        refused(copy)

    @pytest.mark.parametrize("name", ["package:not_installed/model", "package:sys/x", "package:__main__/x"])
    def test_a_package_that_is_not_installed(self, name):
        assert "is not installed" in refused(name)

    def test_a_package_without_such_a_folder(self):
        refused("package:numpy/no_such_folder")


def change_config(folder, changes):
    path = folder / "config.json"
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def test_a_package_carries_weights(monkeypatch, tmp_path):
    tiny_backbone(tmp_path / "a_package_with_weights" / "model")
    (tmp_path / "a_package_with_weights" / "__init__.py").touch()
    monkeypatch.syspath_prepend(tmp_path)
    assert load_backbone("package:a_package_with_weights/model").info.layers == 2
