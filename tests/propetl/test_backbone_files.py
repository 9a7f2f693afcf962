"""What transformers may read of a model's folder: no code, no pickles, nothing outside."""

import builtins
import json
import pickle
import shutil
import sys
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from propetl.backbone import load_backbone
from propetl.backbone_files import model_files, source_of
from propetl.errors import ConfigurationError
from tests.tiny_backbone import tiny_backbone

WEIGHTS, INDEX = "model.safetensors", "model.safetensors.index.json"
BIN = "pytorch_model.bin"


@pytest.fixture(scope="module")
def plain(tmp_path_factory):
    return tiny_backbone(tmp_path_factory.mktemp("backbone") / "gpt2", "gpt2")


@pytest.fixture
def folder(plain, tmp_path):
    return Path(shutil.copytree(plain, tmp_path / "model"))


@pytest.fixture
def marker(tmp_path, monkeypatch):
    """A file that code from the folder would leave; a question on the terminal fails."""
    monkeypatch.setattr(builtins, "input", lambda *_: pytest.fail("transformers asked"))
    path = tmp_path / "was-run"
    yield path
    assert not path.exists()


class Leaving:
    """Leaves a file where it is unpickled."""

    def __init__(self, path):
        self.path = path

    def __reduce__(self):
        return Path.touch, (self.path,)


def change(path, **changes):
    path.write_text(json.dumps(json.loads(path.read_text()) | changes))


def plant_code(folder, marker):
    """Every way known by which a model's folder brings code."""
    code = f"open({str(marker)!r}, 'w').close()\n"
    (folder / "evil.py").write_text(code + "class Evil: pass\ndef generate(*_, **__): pass\n")
    (folder / "custom_generate").mkdir()
    (folder / "custom_generate" / "generate.py").write_text(code)
    names = dict.fromkeys(("AutoConfig", "AutoModel", "AutoModelForCausalLM"), "evil.Evil")
    more = {"attn_implementation": "evil/kernel", "transformers_weights": "adapter_model.bin"}
    change(folder / "config.json", auto_map=names, **more)
    change(folder / "tokenizer_config.json", auto_map={"AutoTokenizer": ["evil.Evil", "evil.Evil"]})
    torch.save({"x": Leaving(marker)}, folder / "adapter_model.bin")
    (folder / "adapter_config.json").write_text('{"peft_type": "LORA", "base_model_name_or_path": "/nowhere"}')


def refused(name, **options):
    with pytest.raises(ConfigurationError) as caught:
        load_backbone(str(name), **options)
    message = str(caught.value)
    assert "\n" not in message and repr(str(name)) in message
    return message


class TestCode:
    def test_of_a_family_that_is_known_is_passed_over(self, folder, plain, marker):
        plant_code(folder, marker)
        found, expected = load_backbone(str(folder)), load_backbone(str(plain))
        assert found.info.fingerprint == expected.info.fingerprint
        assert type(found.model) is type(expected.model)
        assert found.tokenizer_files["tokenizer.json"] == expected.tokenizer_files["tokenizer.json"]

    def test_is_not_handed_on(self, folder, marker):
        plant_code(folder, marker)
        found = load_backbone(str(folder))
        assert not any(b"auto_map" in content for content in found.tokenizer_files.values())
        assert "auto_map" not in found.model.config.to_dict()

    def test_of_a_family_that_nobody_knows_is_refused(self, folder, marker):
        plant_code(folder, marker)
        change(folder / "config.json", model_type="evil")
        refused(folder)

    def test_of_a_tokenizer_that_nobody_knows_is_refused_or_passed_over(self, folder, marker):
        plant_code(folder, marker)
        change(folder / "tokenizer_config.json", tokenizer_class="Evil")
        load_backbone(str(folder))

    def test_nothing_else_is_shown(self, folder, marker):
        plant_code(folder, marker)
        with model_files(folder, allow_pickle=False) as shown:
            names = {path.name for path in shown.iterdir()}
            assert names <= {"config.json", "generation_config.json", WEIGHTS}
            assert not {"auto_map", "attn_implementation", "transformers_weights"} & set(
                json.loads((shown / "config.json").read_text())
            )


class TestPickles:
    @pytest.fixture
    def pickled(self, folder):
        torch.save(load_file(folder / WEIGHTS), folder / BIN)
        (folder / WEIGHTS).unlink()
        return folder

    def test_are_refused_in_one_line(self, pickled):
        assert f"{BIN} is pickled" in refused(pickled) and "--allow-pickle" in refused(pickled)

    @pytest.mark.parametrize("name", ["model.pt", "weights.ckpt", "tf_model.h5", "flax_model.msgpack"])
    def test_of_other_kinds_are_refused(self, folder, name):
        (folder / WEIGHTS).rename(folder / name)
        for allowed in (False, True):
            assert f"{name} is pickled" in refused(folder, allow_pickle=allowed)

    def test_are_read_where_that_was_asked_for(self, pickled, plain):
        found = load_backbone(str(pickled), allow_pickle=True)
        assert found.info.fingerprint == load_backbone(str(plain)).info.fingerprint

    def test_run_nothing_even_then(self, pickled, marker):
        torch.save({"wte.weight": Leaving(marker)}, pickled / BIN)
        refused(pickled, allow_pickle=True)
        (pickled / BIN).write_bytes(pickle.dumps({"wte.weight": Leaving(marker)}))
        refused(pickled, allow_pickle=True)

    def test_beside_safetensors_are_not_looked_at(self, folder, plain, marker):
        torch.save({"x": Leaving(marker)}, folder / BIN)
        for allowed in (False, True):
            found = load_backbone(str(folder), allow_pickle=allowed)
            assert found.info.fingerprint == load_backbone(str(plain)).info.fingerprint


class TestShards:
    @pytest.fixture
    def sharded(self, folder):
        weights = load_file(folder / WEIGHTS)
        (folder / WEIGHTS).unlink()
        names = {}
        for number, name in enumerate(weights):
            names[name] = f"model-{number % 2:05}.safetensors"
        for shard in set(names.values()):
            save_file({name: weights[name] for name in names if names[name] == shard}, folder / shard, {"format": "pt"})
        (folder / INDEX).write_text(json.dumps({"metadata": {}, "weight_map": names}))
        return folder

    def test_are_read(self, sharded, plain):
        assert load_backbone(str(sharded)).info.fingerprint == load_backbone(str(plain)).info.fingerprint

    @pytest.mark.parametrize(
        "shard", ["../model.safetensors", "/etc/model.safetensors", "sub/x.safetensors", BIN, "x.bin", "", 3, None]
    )
    def test_elsewhere_or_of_another_kind_are_refused(self, sharded, shard):
        names = json.loads((sharded / INDEX).read_text())["weight_map"]
        (sharded / INDEX).write_text(json.dumps({"weight_map": dict.fromkeys(names, shard)}))
        assert "names the shard" in refused(sharded)

    @pytest.mark.parametrize("content", ["{}", '{"weight_map": {}}', '{"weight_map": []}', "[]", "{"])
    def test_an_index_that_says_nothing_is_refused(self, sharded, content):
        (sharded / INDEX).write_text(content)
        refused(sharded)

    def test_links_of_the_hub_s_cache_are_followed(self, folder, plain, tmp_path):
        (folder / WEIGHTS).rename(tmp_path / "blob")
        (folder / WEIGHTS).symlink_to(tmp_path / "blob")
        assert load_backbone(str(folder)).info.fingerprint == load_backbone(str(plain)).info.fingerprint


class TestPackages:
    @pytest.fixture
    def package(self, tmp_path, monkeypatch, marker):
        """A package that leaves the marker when it is imported."""
        path = tmp_path / "site" / "a_package_that_runs"
        (path / "inner" / "model").mkdir(parents=True)
        for folder in (path, path / "inner"):
            (folder / "__init__.py").write_text(f"open({str(marker)!r}, 'w').close()\n")
        monkeypatch.syspath_prepend(tmp_path / "site")
        return path

    def test_are_found_and_not_imported(self, package):
        assert source_of("package:a_package_that_runs/inner/model") == str(package / "inner" / "model")
        assert source_of("package:a_package_that_runs/inner/") == str(package / "inner")
        assert source_of("package:a_package_that_runs") == str(package)
        assert "a_package_that_runs" not in sys.modules

    @pytest.mark.parametrize("module", ["a_package_that_runs.inner", "", ".x", "..", "a b", "a-b", "../x", "x:y"])
    def test_take_no_dots(self, package, module):
        with pytest.raises(ConfigurationError, match="without dots"):
            source_of(f"package:{module}/model")

    @pytest.mark.parametrize("folder", ["..", "../other", "inner/../../other", "/etc", "inner\\..", "a\nb"])
    def test_lead_nowhere_else(self, package, folder):
        with pytest.raises(ConfigurationError, match="no folder inside the package"):
            source_of(f"package:a_package_that_runs/{folder}")

    def test_links_out_of_them_are_refused(self, package, plain):
        (package / "link").symlink_to(plain)
        with pytest.raises(ConfigurationError, match="no folder inside the package"):
            source_of("package:a_package_that_runs/link")

    def test_that_are_namespaces_have_several_places(self, tmp_path, monkeypatch):
        for name in ("one", "two"):
            (tmp_path / name / "a_namespace").mkdir(parents=True)
            monkeypatch.syspath_prepend(tmp_path / name)
        (tmp_path / "one" / "a_namespace" / "model").mkdir()
        assert source_of("package:a_namespace/model") == str(tmp_path / "one" / "a_namespace" / "model")
