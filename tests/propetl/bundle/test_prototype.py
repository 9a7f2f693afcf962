"""``prototype.safetensors``: weights, layer masks and language masks, and what is refused."""

import dataclasses
import hashlib
import json

import numpy as np
import pytest

from propetl.bundle import SharedMasks, add_task, read_bundle, write_bundle
from propetl.bundle.pack import read_pack
from propetl.bundle.prototype import prototype_bytes, read_prototype
from propetl.bundle.tensors import read_tensors, tensor_bytes
from propetl.errors import BundleError, ConfigurationError, TaskError
from propetl.files import file_record
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import random_contents, random_task

CONFIG = PrototypeConfig(bottleneck=3, masks="hybrid", languages=("de", "en"), sparsity=0.3)
LAYOUT = layout_of(CONFIG, 12, 2)


@pytest.fixture
def bundle(tmp_path):
    write_bundle(tmp_path / "bundle", random_contents(CONFIG))
    return read_bundle(tmp_path / "bundle")


@pytest.fixture
def file(bundle, tmp_path):
    path = tmp_path / "prototype.safetensors"
    path.write_bytes((bundle.path / "prototype.safetensors").read_bytes())
    return path


def changed(path, change):
    tensors, described = read_tensors(path)
    change(tensors)
    path.write_bytes(tensor_bytes(tensors, described))


def test_the_tensors_and_their_names(file):
    tensors, _ = read_tensors(file)
    masks = {name: (tensor.dtype.name, tensor.shape) for name, tensor in tensors.items() if "mask" in name}
    assert masks == {
        **{f"layer_mask.{side}.weight": ("uint8", (2, 5)) for side in ("down", "up")},
        **{f"language_mask.{name}.{side}.weight": ("uint8", (5,)) for name in ("de", "en") for side in ("down", "up")},
    }
    assert set(tensors) - set(masks) == {"down.weight", "down.bias", "up.weight", "up.bias"}


def test_what_was_written_is_read(bundle):
    contents = random_contents(CONFIG)
    for name, mask in contents.shared_masks.tensors().items():
        assert np.array_equal(bundle.shared_masks.tensors()[name], mask)
    assert bundle.prototype.keys() == contents.prototype.keys()
    again = prototype_bytes(bundle.prototype, bundle.shared_masks)
    assert hashlib.sha256(again).hexdigest() == bundle.prototype_sha256


def test_other_layer_masks_are_another_prototype(bundle):
    """A pack names the file with the masks that its own mask was trained with."""
    layers = {name: mask ^ 1 for name, mask in bundle.shared_masks.layers.items()}
    other = dataclasses.replace(bundle.shared_masks, layers=layers)
    assert hashlib.sha256(prototype_bytes(bundle.prototype, other)).hexdigest() != bundle.prototype_sha256


def test_packs_repeat_the_masks_of_their_language(bundle):
    for task, language in (("first", "de"), ("second", "en")):
        pack = read_pack(bundle.path / "tasks" / f"{task}.safetensors")
        assert pack.info.language == language
        for name, mask in bundle.shared_masks.languages[language].items():
            assert np.array_equal(pack.tensors()[f"language_mask.{name}"], mask)


def test_a_copy_that_differs_is_refused(bundle):
    pack = bundle.packs["first"]
    other = dataclasses.replace(pack, language_masks=bundle.packs["second"].language_masks)
    (bundle.path / "tasks" / "first.safetensors").write_bytes(other.to_bytes())
    record_again(bundle.path, "tasks/first.safetensors")
    with pytest.raises(BundleError, match=r"its mask of language de over \S+ is not the one of prototype.safetensors"):
        read_bundle(bundle.path)


def record_again(path, name):
    """Makes the manifest agree with a file that was changed."""
    manifest = json.loads((path / "bundle.json").read_text())
    manifest["files"][name] = file_record(path / name)
    (path / "bundle.json").write_text(json.dumps(manifest))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        (lambda tensors: tensors.pop("layer_mask.up.weight"), r"\(layer masks\): expected tensors"),
        (lambda tensors: tensors.pop("language_mask.en.up.weight"), r"\(masks of language en\): expected tensors"),
        (lambda tensors: tensors.update({"language_mask.fr.up.weight": np.zeros(5, np.uint8)}), "expected tensors"),
        (lambda tensors: tensors.update({"layer_mask.up.weight": np.zeros((2, 4), np.uint8)}), "is uint8.2, 4.,"),
        (lambda tensors: tensors.update({"layer_mask.up.weight": np.zeros((2, 5), np.int8)}), "is int8"),
        (lambda tensors: tensors["layer_mask.up.weight"].__setitem__((1, -1), 0x80), "bits beyond its 36 entries"),
        (lambda tensors: tensors["language_mask.de.up.weight"].__setitem__(-1, 0x80), "bits beyond its 36 entries"),
    ],
)  # fmt: skip
def test_what_does_not_fit_is_refused(file, change, message):
    changed(file, change)
    with pytest.raises(BundleError, match=message):
        read_prototype(file, LAYOUT)


def test_another_format_is_refused(file):
    tensors, _ = read_tensors(file)
    file.write_bytes(tensor_bytes(tensors, {"format": "propetl-samples", "version": 1}))
    with pytest.raises(BundleError, match="expected format 'propetl-prototype'"):
        read_prototype(file, LAYOUT)


def test_masks_that_nobody_asked_for_are_not_written(tmp_path):
    contents = random_contents(CONFIG)
    for config in (PrototypeConfig(bottleneck=3), dataclasses.replace(CONFIG, languages=("de",))):
        plain = random_contents(config)
        with pytest.raises(BundleError, match="expected"):
            write_bundle(tmp_path / "bundle", dataclasses.replace(plain, shared_masks=contents.shared_masks))
    layers_alone = SharedMasks(contents.shared_masks.layers)
    with pytest.raises(BundleError, match="expected masks of the languages"):
        write_bundle(tmp_path / "bundle", dataclasses.replace(contents, shared_masks=layers_alone))


class TestAddingATask:
    def test_it_brings_one_mask_and_takes_that_of_its_language(self, bundle):
        task = random_task(LAYOUT, 4, np.random.default_rng(3), turn=1)
        add_task(bundle.path, "third", task)
        after = read_bundle(bundle.path)
        assert after.prototype_sha256 == bundle.prototype_sha256
        pack = after.packs["third"]
        assert {name: mask.shape for name, mask in pack.masks.items()} == LAYOUT.mask_shapes()
        for name, mask in bundle.shared_masks.languages["en"].items():
            assert np.array_equal(pack.language_masks[name], mask)

    @pytest.mark.parametrize("language", [None, "fr"])
    def test_a_language_cannot_be_added(self, bundle, language):
        task = random_task(LAYOUT, 4, np.random.default_rng(3))
        task = dataclasses.replace(task, info=dataclasses.replace(task.info, language=language))
        before = {path: path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()}
        with pytest.raises(ConfigurationError, match=f"task 'third': its language is {language!r}"):
            add_task(bundle.path, "third", task)
        assert before == {path: path.read_bytes() for path in bundle.path.rglob("*") if path.is_file()}

    def test_a_pack_in_another_language_is_refused(self, bundle):
        pack = bundle.packs["first"]
        stranger = dataclasses.replace(pack, info=dataclasses.replace(pack.info, language="fr"))
        with pytest.raises(BundleError, match="here: task 'first': its language is 'fr'"):
            stranger.check(LAYOUT, "here")

    def test_a_name_that_is_taken(self, bundle):
        with pytest.raises(TaskError, match=r"is in \S+ already"):
            add_task(bundle.path, "first", random_task(LAYOUT, 4, np.random.default_rng(3)))
