"""Task packs: bytes, sizes, and what is refused."""

import dataclasses

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from safetensors.numpy import save

from propetl.bundle.format import metadata
from propetl.bundle.pack import TaskPack, parse_pack, read_pack
from propetl.bundle.tensors import read_tensors
from propetl.errors import BundleError
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig
from tests.tiny_bundle import random_task

ADAPTER = PrototypeConfig(bottleneck=3, sparsity=0.4)


def pack_of(config=ADAPTER, hidden=7, layers=2, outputs=3, head="linear", seed=0):
    layout = layout_of(config, hidden, layers, ffn_size=2 * hidden)
    task = random_task(layout, outputs, np.random.default_rng(seed), head)
    info = dataclasses.replace(task.info, scores={})
    return TaskPack("rte", info, "a" * 64, "b" * 64, task.masks, task.weights, task.head), layout


@pytest.fixture
def written(tmp_path):
    pack, layout = pack_of()
    path = tmp_path / "rte.safetensors"
    path.write_bytes(pack.to_bytes())
    return pack, layout, path


def same(left, right):
    tensors = left.tensors(), right.tensors()
    assert tensors[0].keys() == tensors[1].keys()
    assert all(np.array_equal(tensors[0][name], tensors[1][name]) for name in tensors[0])
    assert (left.task, left.info, left.prototype_sha256) == (right.task, right.info, right.prototype_sha256)
    assert left.backbone_fingerprint == right.backbone_fingerprint


@pytest.mark.parametrize("method", ["adapter", "lora", "prefix", "ia3", "head"])
@pytest.mark.parametrize("sharing", ["masked", "unshared"])
@pytest.mark.parametrize("head", ["linear", "own"])
def test_writing_and_reading(tmp_path, method, sharing, head):
    config = PrototypeConfig(method=method, sharing=sharing, bottleneck=3, rank=2, prefix_length=2)
    pack, layout = pack_of(config, head=head)
    (tmp_path / "pack").write_bytes(pack.to_bytes())
    again = read_pack(tmp_path / "pack")
    same(pack, again)
    again.check(layout, "here")


def test_content_that_was_read_already_is_the_same_pack():
    pack, _ = pack_of()
    found = parse_pack(pack.to_bytes(), "not there")
    same(pack, found)
    assert found.to_bytes() == pack.to_bytes()


def test_the_same_pack_gives_the_same_bytes():
    pack, _ = pack_of()
    backwards = dataclasses.replace(
        pack,
        masks=dict(reversed(pack.masks.items())),
        head={name: np.asfortranarray(tensor) for name, tensor in reversed(pack.head.items())},
    )
    assert len({pack_of()[0].to_bytes() for _ in range(20)} | {backwards.to_bytes()}) == 1


@settings(deadline=None, max_examples=60)
@given(
    st.sampled_from(["adapter", "lora", "prefix", "ia3"]),
    st.integers(1, 400),
    st.integers(1, 24),
    st.integers(1, 70),
    st.sampled_from([("ffn",), ("attention", "ffn")]),
)
def test_without_its_head_a_pack_is_the_bits_of_its_masks_and_a_little(method, hidden, layers, width, sites):
    config = PrototypeConfig(method=method, bottleneck=width, rank=width, prefix_length=width, sites=sites)
    layout = layout_of(config, hidden, layers, ffn_size=2 * hidden)
    masks = {name: np.zeros(shape, np.uint8) for name, shape in layout.mask_shapes().items()}
    info = dataclasses.replace(pack_of()[0].info, labels=("entailment", "not_entailment"))
    pack = TaskPack("x" * 64, info, "a" * 64, "b" * 64, masks)
    bits = sum(tensor.slots * tensor.size for tensor in layout.masked_tensors)
    assert len(pack.to_bytes()) <= 1.02 * bits / 8 + 4096


class TestRefused:
    def test_truncated(self, written):
        _, _, path = written
        whole = path.read_bytes()
        for length in (0, 1, 7, 8, 40, len(whole) // 2, len(whole) - 1):
            path.write_bytes(whole[:length])
            with pytest.raises(BundleError, match=str(path)):
                read_pack(path)

    def test_a_bit_flipped_anywhere(self, written):
        """A pack travels alone, with no manifest beside it: it has to know its own content."""
        _, layout, path = written
        whole = path.read_bytes()
        for place in range(0, len(whole), 3):
            path.write_bytes(whole[:place] + bytes([whole[place] ^ 4]) + whole[place + 1 :])
            with pytest.raises(BundleError, match=str(path)):
                read_pack(path).check(layout, str(path))

    def test_longer_than_it_says(self, written):
        _, _, path = written
        path.write_bytes(path.read_bytes() + b"more")
        with pytest.raises(BundleError, match="truncated or damaged"):
            read_pack(path)

    def test_no_such_file(self, tmp_path):
        with pytest.raises(BundleError, match="no such file"):
            read_pack(tmp_path / "nothing")

    def test_a_folder(self, tmp_path):
        with pytest.raises(BundleError, match="not a readable safetensors file"):
            read_pack(tmp_path)

    @pytest.mark.parametrize("description", [{}, {"format": "propetl-samples", "version": 1}, [], None, "text"])
    def test_another_format(self, tmp_path, description):
        (tmp_path / "pack").write_bytes(save({"x": np.zeros(1)}, metadata(description)))
        with pytest.raises(BundleError, match="expected format 'propetl-task-pack'"):
            read_pack(tmp_path / "pack")

    def test_a_file_of_safetensors_that_is_not_ours(self, tmp_path):
        (tmp_path / "pack").write_bytes(save({"x": np.zeros(1)}))
        with pytest.raises(BundleError, match="expected format"):
            read_pack(tmp_path / "pack")

    def test_a_future_version(self, tmp_path):
        (tmp_path / "pack").write_bytes(
            save({"x": np.zeros(1)}, metadata({"format": "propetl-task-pack", "version": 2}))
        )
        with pytest.raises(BundleError, match="upgrade propetl"):
            read_pack(tmp_path / "pack")

    def test_metadata_that_is_not_json(self, tmp_path):
        (tmp_path / "pack").write_bytes(save({"x": np.zeros(1)}, {"propetl": "{"}))
        with pytest.raises(BundleError, match="truncated or damaged"):
            read_pack(tmp_path / "pack")

    def test_a_type_that_numpy_does_not_know(self, tmp_path):
        content = save({"x": np.zeros(4, np.float16)}, metadata({"format": "propetl-task-pack", "version": 1}))
        (tmp_path / "pack").write_bytes(content.replace(b'"F16"', b'"BF16"').replace(b"}  ", b"} ", 1))
        with pytest.raises(BundleError, match="BF16"):
            read_tensors(tmp_path / "pack")

    @pytest.mark.parametrize("name", ["down.weight", "up.weight"])
    def test_stray_bits(self, name):
        pack, layout = pack_of()  # 21 entries: three bits of the last byte are unused
        pack.masks[name][1, -1] |= 0x80
        with pytest.raises(BundleError, match=f"here: the mask of {name} has bits beyond its 21 entries"):
            pack.check(layout, "here")

    def test_a_mask_of_another_shape(self):
        pack, layout = pack_of()
        pack.masks["down.weight"] = pack.masks["down.weight"][:1]
        with pytest.raises(BundleError, match=r"here: down.weight is uint8\[1, 3\], expected uint8\[2, 3\]"):
            pack.check(layout, "here")

    def test_a_mask_of_another_type(self):
        pack, layout = pack_of()
        pack.masks["down.weight"] = pack.masks["down.weight"].astype(np.int16)
        with pytest.raises(BundleError, match=r"down\.weight is int16"):
            pack.check(layout, "here")

    def test_a_mask_too_few_or_too_many(self):
        pack, layout = pack_of()
        for masks in (
            {"down.weight": pack.masks["down.weight"]},
            pack.masks | {"extra": np.zeros(1, np.uint8)},
        ):
            with pytest.raises(BundleError, match="here: expected tensors"):
                dataclasses.replace(pack, masks=masks).check(layout, "here")

    def test_weights_where_masks_are_due(self):
        _, layout = pack_of()
        unshared, _ = pack_of(dataclasses.replace(ADAPTER, sharing="unshared"))
        with pytest.raises(BundleError, match="expected tensors"):
            unshared.check(layout, "here")

    def test_a_head_of_another_size(self):
        pack, layout = pack_of()
        pack.head["bias"] = np.zeros(2, np.float32)
        with pytest.raises(BundleError, match=r"here \(head\): bias is float32\[2\], expected float32\[3\]"):
            pack.check(layout, "here")

    def test_half_a_head_of_the_familys_own(self):
        pack, layout = pack_of(head="own")
        del pack.head["dense.bias"]
        with pytest.raises(BundleError, match="expected tensors"):
            pack.check(layout, "here")

    def test_a_tensor_that_belongs_to_nothing(self, written):
        _pack, _, path = written
        tensors, described = read_tensors(path)
        path.write_bytes(save(tensors | {"extra": np.zeros(1, np.float32)}, metadata(described)))
        with pytest.raises(BundleError, match=str(path)):
            read_pack(path)

    def test_a_name_that_leaves_the_folder(self, written):
        pack, _, path = written
        path.write_bytes(dataclasses.replace(pack, task="../evil").to_bytes())
        with pytest.raises(BundleError, match="not a valid task pack"):
            read_pack(path)
