"""Reading a bundle: whatever is wrong with it is one clear line before a byte is used."""

import dataclasses
import json
import os
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save

from propetl.bundle import read_bundle, write_bundle
from propetl.bundle.format import metadata
from propetl.bundle.tensors import read_tensors
from propetl.errors import BundleError, ProPETLError, TaskError
from propetl.files import file_record, json_bytes, sha256_of_file
from propetl.prototypes.spec import PrototypeConfig
from propetl.sealed import FILES, sealed
from tests.tiny_bundle import random_contents

CONFIG = PrototypeConfig(bottleneck=3)
METHODS = [
    PrototypeConfig(method=method, sharing=sharing, bottleneck=3, rank=2, prefix_length=2)
    for method in ("adapter", "lora", "prefix", "ia3", "head")
    for sharing in ("masked", "unshared")
]


@pytest.fixture(scope="module")
def pristine(tmp_path_factory):
    path = tmp_path_factory.mktemp("bundles") / "pristine"
    write_bundle(path, random_contents(CONFIG))
    return path


@pytest.fixture
def bundle(pristine, tmp_path):
    return Path(shutil.copytree(pristine, tmp_path / "bundle"))


def every_file(folder):
    return sorted(path.relative_to(folder).as_posix() for path in folder.rglob("*") if path.is_file())


def change_manifest(bundle, change):
    manifest = json.loads((bundle / "bundle.json").read_text())
    change(manifest)
    (bundle / "bundle.json").write_bytes(json_bytes(sealed(manifest, FILES)))


def record_again(bundle, relative):
    """As one who tampers would: the manifest vouches for the file that is there now."""
    change_manifest(bundle, lambda manifest: manifest["files"].update({relative: file_record(bundle / relative)}))


def refused(bundle, kind=BundleError):
    """The error's message, which is one line and names the bundle."""
    with pytest.raises(kind) as caught:
        read_bundle(bundle)
    assert "\n" not in str(caught.value) and str(bundle) in str(caught.value)
    return str(caught.value)


@pytest.mark.parametrize("config", METHODS, ids=lambda config: f"{config.method}-{config.sharing}")
@pytest.mark.parametrize("head", ["linear", "own"])
def test_everything_written_is_read(tmp_path, config, head):
    contents = random_contents(config, head=head, tasks={"one": 1, "many": 5, "value": 0})
    info = write_bundle(tmp_path / "bundle", contents)
    bundle = read_bundle(tmp_path / "bundle")
    assert bundle.info == info
    assert bundle.sha256 == sha256_of_file(tmp_path / "bundle" / "bundle.json")
    assert (info.backbone, info.prototype, info.head) == (contents.backbone, config, head)
    assert_same(bundle.prototype, contents.prototype)
    assert set(bundle.packs) == set(contents.tasks)
    for task, expected in contents.tasks.items():
        pack = bundle.pack(task)
        assert_same(pack.masks, expected.masks)
        assert_same(pack.weights, expected.weights)
        assert_same(pack.head, expected.head)
        assert_same(bundle.samples(task), {name: ids.astype(np.int32) for name, ids in expected.samples.items()})
        assert info.tasks[task] == expected.info


def assert_same(found, expected):
    assert set(found) == set(expected)
    for name in expected:
        assert found[name].dtype == expected[name].dtype and np.array_equal(found[name], expected[name])


def test_the_tokenizer_is_there(pristine):
    assert every_file(read_bundle(pristine).tokenizer_folder) == ["tokenizer.json", "tokenizer_config.json"]


def test_an_unknown_task(pristine):
    bundle = read_bundle(pristine)
    for ask in (bundle.pack, bundle.samples):
        with pytest.raises(TaskError, match=r"task 'third' is not in .*; it has first, second"):
            ask("third")


class TestDamage:
    def test_no_folder(self, tmp_path):
        assert "no bundle is there" in refused(tmp_path / "nothing")

    def test_a_file_instead_of_a_folder(self, tmp_path):
        (tmp_path / "file").write_text("")
        assert "no bundle is there" in refused(tmp_path / "file")

    @pytest.mark.parametrize(
        "relative", ["prototype.safetensors", "tasks/first.safetensors", "tokenizer/tokenizer.json"]
    )
    def test_a_missing_file(self, bundle, relative):
        (bundle / relative).unlink()
        assert f"{relative} is missing" in refused(bundle)

    def test_a_flipped_bit_in_any_file(self, bundle):
        for relative in every_file(bundle):
            whole = (bundle / relative).read_bytes()
            for place in (0, len(whole) // 2, len(whole) - 1):
                (bundle / relative).write_bytes(whole[:place] + bytes([whole[place] ^ 1]) + whole[place + 1 :])
                if relative == "bundle.json" and place == len(whole) - 1:  # the newline at its end says nothing
                    continue
                refused(bundle, ProPETLError)
            (bundle / relative).write_bytes(whole)
        read_bundle(bundle)

    def test_any_file_truncated(self, bundle):
        for relative in every_file(bundle):
            whole = (bundle / relative).read_bytes()
            for length in (0, len(whole) // 2, len(whole) - 2):
                (bundle / relative).write_bytes(whole[:length])
                refused(bundle)
            (bundle / relative).write_bytes(whole)

    @pytest.mark.parametrize("content", [b"\xff\xfe", b"[" * 100_000, b"null", b"{}", b"", b'{"format": '])
    def test_a_manifest_that_is_none(self, bundle, content):
        (bundle / "bundle.json").write_bytes(content)
        refused(bundle)

    def test_a_folder_instead_of_the_manifest(self, bundle):
        (bundle / "bundle.json").unlink()
        (bundle / "bundle.json").mkdir()
        refused(bundle)

    def test_a_future_version(self, bundle):
        change_manifest(bundle, lambda manifest: manifest.update(version=2))
        assert "upgrade propetl" in refused(bundle)

    @pytest.mark.parametrize(
        "relative", ["prototype.safetensors", "tasks/first.safetensors", "tasks/first.samples.safetensors"]
    )
    def test_a_file_that_the_manifest_does_not_vouch_for(self, bundle, relative):
        change_manifest(bundle, lambda manifest: manifest["files"].pop(relative))
        assert f"{relative} is not among its files" in refused(bundle)

    def test_no_permission(self, bundle, monkeypatch):
        def refuse(*_, **__):
            raise PermissionError(13, "Permission denied")

        monkeypatch.setattr(Path, "read_bytes", refuse)
        assert "no permission" in refused(bundle)
        monkeypatch.undo()
        monkeypatch.setattr(Path, "open", refuse)
        assert "no permission" in refused(bundle)


class TestPathsThatLeave:
    @pytest.mark.parametrize("relative", ["/etc/passwd", "../outside", "tasks/../../outside", "."])
    def test_in_the_manifest(self, bundle, relative):
        (bundle.parent / "outside").write_text("secret")
        change_manifest(bundle, lambda manifest: manifest["files"].update({relative: {"sha256": "", "bytes": 6}}))
        assert "not a path inside the folder" in refused(bundle)

    @pytest.mark.parametrize("relative", ["prototype.safetensors", "tasks", "tokenizer"])
    def test_by_a_link(self, bundle, relative):
        (bundle / relative).rename(bundle.parent / "outside")
        (bundle / relative).symlink_to(bundle.parent / "outside")
        assert "link that leaves the folder" in refused(bundle)

    def test_by_a_tasks_name(self, bundle):
        change_manifest(bundle, lambda manifest: manifest["tasks"].update({"../x": manifest["tasks"]["first"]}))
        assert "task name" in refused(bundle)


class TestWhatDoesNotFit:
    """Files that are whole and vouched for, but not of this bundle."""

    def replace(self, bundle, relative, change):
        tensors, described = read_tensors(bundle / relative)
        change(tensors, described)
        (bundle / relative).write_bytes(save(tensors, metadata(described)))
        record_again(bundle, relative)

    def swap_pack(self, bundle, **other):
        donor = bundle.parent / "donor"
        write_bundle(donor, random_contents(**{"config": CONFIG} | other))
        shutil.copy(donor / "tasks" / "first.safetensors", bundle / "tasks" / "first.safetensors")
        record_again(bundle, "tasks/first.safetensors")

    def test_a_prototype_of_another_shape(self, bundle):
        self.replace(bundle, "prototype.safetensors", lambda tensors, _: tensors.update({"up.bias": np.zeros(3, "f4")}))
        assert "up.bias is float32[3], expected float32[12]" in refused(bundle)

    def test_a_prototype_of_another_type(self, bundle):
        self.replace(bundle, "prototype.safetensors", lambda tensors, _: tensors.update({"up.bias": np.zeros(12)}))
        assert "up.bias is float64[12], expected float32[12]" in refused(bundle)

    def test_a_prototype_that_lacks_a_tensor(self, bundle):
        self.replace(bundle, "prototype.safetensors", lambda tensors, _: tensors.pop("up.bias"))
        assert "expected tensors" in refused(bundle)

    def test_a_pack_of_another_prototype(self, bundle):
        self.swap_pack(bundle, seed=9)
        assert "made for prototype" in refused(bundle, TaskError)

    def test_a_pack_of_another_backbone(self, bundle):
        backbone = dataclasses.replace(random_contents(CONFIG).backbone, fingerprint="e" * 64)
        self.swap_pack(bundle, backbone=backbone)
        assert "made for backbone eeeeeeeeeeee, but this one is ffffffffffff" in refused(bundle, TaskError)

    def test_a_pack_under_anothers_name(self, bundle):
        shutil.copy(bundle / "tasks" / "second.safetensors", bundle / "tasks" / "first.safetensors")
        record_again(bundle, "tasks/first.safetensors")
        assert "holds task 'second', expected 'first'" in refused(bundle)

    def test_a_pack_with_another_kind_of_head(self, bundle):
        self.swap_pack(bundle, head="own")
        assert "its kind of head is own, here it has to be linear" in refused(bundle)

    def test_a_manifest_that_says_something_else_of_a_task(self, bundle):
        change_manifest(bundle, lambda manifest: manifest["tasks"]["first"].update(labels=["only"]))
        assert "labels" in refused(bundle)

    @pytest.mark.parametrize(
        "samples",
        [
            {},
            {"input_ids": np.zeros((2, 3), np.int32)},
            {"input_ids": np.zeros((2, 3), np.int32), "attention_mask": np.ones((2, 4), np.int32)},
            {"input_ids": np.zeros((2, 3), np.float32), "attention_mask": np.ones((2, 3), np.float32)},
            {"input_ids": np.zeros(3, np.int32), "attention_mask": np.ones(3, np.int32)},
            {"input_ids": np.zeros((0, 3), np.int32), "attention_mask": np.ones((0, 3), np.int32)},
        ],
    )
    def test_sample_rows_that_are_none(self, bundle, samples):
        relative = "tasks/first.samples.safetensors"
        description = {"format": "propetl-samples", "version": 1, "task": "first"}
        (bundle / relative).write_bytes(save(samples, metadata(description)))
        record_again(bundle, relative)
        assert relative in refused(bundle)


def test_reading_follows_no_pickle(bundle):
    """A file that would run code if it were unpickled is only hashed and refused."""
    (bundle / "prototype.safetensors").write_bytes(b"cos\nsystem\n(S'touch " + os.fsencode(bundle / "ran") + b"'\ntR.")
    record_again(bundle, "prototype.safetensors")
    refused(bundle)
    assert not (bundle / "ran").exists()
