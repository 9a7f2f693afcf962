"""Storage, sparsity and overlap, counted by hand and by brute force."""

import dataclasses
import json
import subprocess
import sys

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from propetl.bits import pack, unpack
from propetl.bundle import read_bundle, write_bundle
from propetl.errors import ConfigurationError, MissingExtraError
from propetl.inspection import inspect, jaccard_matrix, overlap_by_chance, slot_names
from propetl.inspection_plot import write_overlap_plot
from propetl.prototypes.layout import layout_of
from propetl.prototypes.spec import PrototypeConfig
from tests.device_env import ROOT
from tests.tiny_bundle import BACKBONE, random_contents

HIDDEN, LAYERS = 12, 2  # of the tiny bundle


@pytest.fixture
def inspected(tmp_path):
    """What inspecting a bundle of random contents finds."""

    def make(config, **options):
        write_bundle(tmp_path / "bundle", random_contents(config, **options))
        return inspect(read_bundle(tmp_path / "bundle"))

    return make


MASKED = [
    (PrototypeConfig(bottleneck=3), 2 * 3 * 12, 2 * 3 * 12 + 3 + 12, 2),
    (PrototypeConfig(bottleneck=3, sites=("attention", "ffn")), 2 * 3 * 12, 2 * 3 * 12 + 3 + 12, 4),
    (PrototypeConfig(method="lora", rank=2), 4 * 2 * 12, 4 * 2 * 12, 2),
    (PrototypeConfig(method="prefix", prefix_length=5), 5 * 24, 5 * 24, 2),
]


@pytest.mark.parametrize(("config", "masked", "weights", "slots"), MASKED, ids=["adapter", "houlsby", "lora", "prefix"])
def test_masks_cost_a_bit_per_entry_and_slot(inspected, config, masked, weights, slots):
    storage = inspected(config).storage
    assert storage.prototype == 32 * weights
    assert storage.backbone == 32 * BACKBONE.parameters
    for task, outputs in (("first", 2), ("second", 3)):
        assert storage.tasks[task].masks == storage.tasks[task].bits == slots * masked
        assert storage.tasks[task].head == 32 * (outputs * HIDDEN + outputs)
    assert storage.bits == 32 * weights + 2 * slots * masked
    assert storage.head_bits == 32 * 5 * (HIDDEN + 1)
    assert storage.full_fine_tuning == 2 * 32 * BACKBONE.parameters


HYBRID = PrototypeConfig(bottleneck=3, masks="hybrid", sparsity=0.3)
LANGUAGES = dataclasses.replace(HYBRID, languages=("de", "en"))
FIVE = {f"task{number}": 2 for number in range(5)}


@pytest.mark.parametrize(
    ("config", "layers", "languages", "own"),
    [
        (HYBRID, LAYERS, 0, 1),
        (LANGUAGES, LAYERS, 2, 1),
        (dataclasses.replace(HYBRID, masks="only-layers"), LAYERS, 0, 0),
        (dataclasses.replace(HYBRID, masks="only-tasks"), 0, 0, 1),
        (PrototypeConfig(bottleneck=3), 0, 0, LAYERS),
    ],
)
def test_n_tasks_cost_the_layers_masks_once_and_one_each(inspected, config, layers, languages, own):
    storage, mask = inspected(config, tasks=FIVE).storage, 2 * 3 * HIDDEN
    assert storage.layer_masks == layers * mask
    assert storage.languages == dict.fromkeys(("de", "en")[:languages], mask)
    assert all(task.masks == own * mask for task in storage.tasks.values())
    assert storage.bits == storage.prototype + (layers + languages + 5 * own) * mask


@pytest.mark.parametrize(("rule", "join"), [("or", np.any), ("and", np.all), ("add", np.any)])
def test_what_runs_is_counted_after_masks_are_combined(inspected, rule, join):
    found = inspected(dataclasses.replace(LANGUAGES, combine=rule))
    shared, pack = found.bundle.shared_masks, found.bundle.packs["second"]
    for name, layers in shared.layers.items():
        for slot in range(LAYERS):
            masks = [layers[slot], shared.languages["en"][name], pack.masks[name]]
            runs = join([unpack(mask, 36) for mask in masks], axis=0)
            assert found.kept["second"][name][slot] == pytest.approx(runs.mean())


def test_overlap_of_hybrid_masks(inspected):
    found = inspected(LANGUAGES)
    overlap, shared, packs = found.overlap, found.bundle.shared_masks, found.bundle.packs
    assert overlap.slots == {} and list(overlap.between_slots()) == ["layer masks"]
    for matrix, owners in (
        (overlap.layers, [{name: mask[slot] for name, mask in shared.layers.items()} for slot in range(LAYERS)]),
        (overlap.tasks, [one.masks for one in packs.values()]),
        (overlap.languages, list(shared.languages.values())),
    ):
        left, right = (np.concatenate([unpack(owner[name], 36) for name in sorted(owner)]) for owner in owners)
        assert matrix[0, 1] == pytest.approx((left & right).sum() / (left | right).sum())


@pytest.mark.parametrize("head", ["linear", "own"])
def test_unshared_weights_cost_a_float_each(inspected, head):
    storage = inspected(PrototypeConfig(bottleneck=3, sharing="unshared"), head=head, tasks={"one": 0}).storage
    assert storage.prototype == storage.tasks["one"].masks == 0
    assert storage.tasks["one"].bits == 32 * LAYERS * (2 * 3 * HIDDEN + 3 + HIDDEN)
    dense = HIDDEN * HIDDEN + HIDDEN if head == "own" else 0
    assert storage.tasks["one"].head == 32 * (HIDDEN + 1 + dense)


SEQ2SEQ = dataclasses.replace(BACKBONE, family="t5", decoder_layers=3)
EACH = PrototypeConfig(bottleneck=3, sites=("attention", "ffn"), sparsity=0.3, scope="stack")


def test_a_prototype_each_is_counted_and_compared_by_itself(inspected):
    found = inspected(EACH, backbone=SEQ2SEQ)
    weights, masked, encoder, decoder = 2 * 3 * HIDDEN + 3 + HIDDEN, 2 * 3 * HIDDEN, 4, 6
    assert found.storage.prototype == 2 * 32 * weights
    assert found.storage.tasks["first"].masks == (encoder + decoder) * masked
    kept = (36 - int(0.7 * 36)) / 36
    assert [found.kept_at("first", slot) for slot in range(10)] == pytest.approx([kept] * 10)
    matrix, masks = found.overlap.slots["first"], found.bundle.packs["first"].masks
    assert np.isnan(matrix[:encoder, encoder:]).all() and np.isnan(matrix[encoder:, :encoder]).all()
    for slot, name, place in ((1, "encoder", 1), (7, "decoder", 3)):
        left, right = (
            np.concatenate([unpack(masks[f"{name}.{part}.weight"][at], 36) for part in ("down", "up")])
            for at in (place, place - 1)
        )
        assert matrix[slot, slot - 1] == pytest.approx((left & right).sum() / (left | right).sum())
    assert found.to_json()["overlap"]["slots"]["first"][0][encoder] is None
    json.dumps(found.to_json(), allow_nan=False)


def test_a_prototype_each_has_a_mask_of_the_task_each(inspected):
    found = inspected(dataclasses.replace(EACH, masks="hybrid", languages=("de",)), backbone=SEQ2SEQ)
    masked = 2 * 2 * 3 * HIDDEN
    assert found.storage.tasks["first"].masks == found.storage.languages["de"] == masked
    assert found.storage.layer_masks == 10 * masked // 2
    assert found.overlap.tasks.shape == (2, 2) and np.isfinite(found.overlap.tasks).all()


def test_weights_that_all_tasks_share_cost_a_float_once(inspected):
    storage = inspected(PrototypeConfig(bottleneck=3, sharing="tasks")).storage
    assert storage.prototype == storage.bits == 32 * LAYERS * (2 * 3 * HIDDEN + 3 + HIDDEN)
    assert {task.bits for task in storage.tasks.values()} == {0}


def test_a_pack_without_its_head_is_hardly_more_than_its_masks(inspected):
    """The size that the format promises: 1.02 x the bits of the masks plus 4 KiB."""
    found = inspected(PrototypeConfig(bottleneck=32))
    for storage in found.storage.tasks.values():
        assert storage.file_bytes - storage.head / 8 <= 1.02 * storage.masks / 8 + 4096


@pytest.mark.parametrize("sparsity", [0.1, 0.5, 1.0])
def test_sparsity_is_counted_not_believed(inspected, sparsity):
    found = inspected(PrototypeConfig(bottleneck=3, sparsity=sparsity))
    kept = (36 - int((1 - sparsity) * 36)) / 36
    for task in ("first", "second"):
        for name in ("down.weight", "up.weight"):
            assert found.kept[task][name].tolist() == pytest.approx([kept] * LAYERS)
        assert [found.kept_at(task, slot) for slot in range(LAYERS)] == pytest.approx([kept] * LAYERS)


def test_a_slot_that_keeps_less_shows(tmp_path):
    contents = random_contents(PrototypeConfig(bottleneck=3))
    masks = {name: mask.copy() for name, mask in contents.tasks["first"].masks.items()}
    masks["up.weight"][1] = 0
    tasks = {**contents.tasks, "first": dataclasses.replace(contents.tasks["first"], masks=masks)}
    write_bundle(tmp_path / "bundle", dataclasses.replace(contents, tasks=tasks))
    found = inspect(read_bundle(tmp_path / "bundle"))
    assert found.kept["first"]["up.weight"].tolist() == [0.5, 0.0]
    assert found.kept_at("first", 1) == 0.25


@given(
    masks=st.integers(1, 5).flatmap(
        lambda rows: st.integers(1, 30).flatmap(
            lambda size: st.lists(st.lists(st.booleans(), min_size=size, max_size=size), min_size=rows, max_size=rows)
        )
    )
)
def test_overlap_is_jaccards(masks):
    matrix = jaccard_matrix(pack(np.array(masks)))
    kept = [{place for place, bit in enumerate(row) if bit} for row in masks]
    for left, one in enumerate(kept):
        for right, other in enumerate(kept):
            expected = len(one & other) / len(one | other) if one | other else 1.0
            assert matrix[left, right] == pytest.approx(expected)


def test_overlap_of_equal_slots_and_tasks_is_one(tmp_path):
    contents = random_contents(PrototypeConfig(bottleneck=3))
    first = contents.tasks["first"]
    same = {name: np.repeat(mask[:1], LAYERS, axis=0) for name, mask in first.masks.items()}
    tasks = {
        "first": dataclasses.replace(first, masks=same),
        "second": dataclasses.replace(contents.tasks["second"], masks=same),
    }
    write_bundle(tmp_path / "bundle", dataclasses.replace(contents, tasks=tasks))
    overlap = inspect(read_bundle(tmp_path / "bundle")).overlap
    assert overlap is not None and overlap.tasks is not None
    assert overlap.tasks.tolist() == [[1, 1], [1, 1]]
    assert overlap.slots["first"].tolist() == [[1, 1], [1, 1]]


def test_masks_drawn_apart_overlap_by_chance(inspected):
    config = PrototypeConfig(bottleneck=400, sparsity=0.3)
    overlap = inspected(config).overlap
    assert overlap.tasks[0, 1] == pytest.approx(overlap_by_chance(0.3), abs=0.02)
    assert overlap.slots["first"][0, 1] == pytest.approx(overlap_by_chance(0.3), abs=0.02)


def test_names_of_slots():
    assert slot_names(layout_of(PrototypeConfig(), HIDDEN, 2)) == ["layer 0", "layer 1"]
    two = PrototypeConfig(sites=("attention", "ffn"))
    assert slot_names(layout_of(two, HIDDEN, 2)) == [
        "layer 0 attention",
        "layer 0 ffn",
        "layer 1 attention",
        "layer 1 ffn",
    ]
    lora = PrototypeConfig(method="lora", sites=("attention", "ffn"))
    assert slot_names(layout_of(lora, HIDDEN, 1)) == ["layer 0"]


def test_slots_of_an_encoder_decoder_count_the_encoder_first():
    lora = PrototypeConfig(method="lora")
    assert slot_names(layout_of(lora, HIDDEN, 1, decoder_layers=2)) == [
        "encoder 0",
        "decoder 0 self",
        "decoder 0 cross",
        "decoder 1 self",
        "decoder 1 cross",
    ]
    adapter = PrototypeConfig(sites=("attention", "ffn"))
    assert slot_names(layout_of(adapter, HIDDEN, 1, decoder_layers=1)) == [
        "encoder 0 attention",
        "encoder 0 ffn",
        "decoder 0 attention",
        "decoder 0 ffn",
    ]


JSON_CASES = [case[0] for case in MASKED] + [PrototypeConfig(method="head"), LANGUAGES]


@pytest.mark.parametrize("config", JSON_CASES)
def test_json_holds_everything(inspected, config):
    found = inspected(config)
    value = json.loads(json.dumps(found.to_json(), allow_nan=False))
    assert value["sha256"] == found.bundle.sha256
    assert value["tasks"]["first"]["storage"]["mask_bits"] == found.storage.tasks["first"].masks
    assert value["storage"]["total_bits"] == found.storage.bits
    if config.method == "head":
        assert value["overlap"] is None
    elif config.languages:
        assert value["storage"]["language_mask_bits"] == found.storage.languages
        assert value["storage"]["layer_mask_bits"] == found.storage.layer_masks
        assert value["overlap"]["languages"]["order"] == ["de", "en"]
        assert len(value["overlap"]["layers"]) == len(value["slots"]) and value["overlap"]["slots"] == {}
    else:
        assert value["overlap"]["tasks"]["order"] == ["first", "second"]
        assert len(value["overlap"]["slots"]["second"]) == len(value["slots"])


class TestPlot:
    @pytest.mark.parametrize(("ending", "start"), [("png", b"\x89PNG"), ("SVG", b"<?xml"), ("pdf", b"%PDF")])
    @pytest.mark.parametrize("tasks", [{"one": 2}, {"one": 2, "two": 3, "three": 0}], ids=["one", "three"])
    def test_the_ending_decides_the_format(self, inspected, tmp_path, ending, start, tasks):
        path = tmp_path / f"overlap.{ending}"
        write_overlap_plot(inspected(PrototypeConfig(bottleneck=3), tasks=tasks), path)
        assert path.read_bytes().startswith(start)

    @pytest.mark.parametrize(
        ("config", "titles"),
        [
            (PrototypeConfig(bottleneck=3), ["slots of first", "slots of second", "tasks"]),
            (LANGUAGES, ["slots of layer masks", "tasks", "languages"]),
            (dataclasses.replace(HYBRID, masks="only-layers"), ["slots of layer masks"]),
            (dataclasses.replace(HYBRID, masks="only-tasks"), ["tasks"]),
        ],
    )
    def test_what_is_drawn(self, inspected, tmp_path, config, titles):
        write_overlap_plot(inspected(config), tmp_path / "overlap.svg")
        drawn = (tmp_path / "overlap.svg").read_text()
        assert [title for title in titles if f"<!-- {title} -->" in drawn] == titles
        assert drawn.count("<!-- slots of ") == sum(title.startswith("slots") for title in titles)

    def test_one_task_has_nobody_to_be_compared_with(self, inspected, tmp_path):
        config = dataclasses.replace(HYBRID, masks="only-tasks")
        with pytest.raises(ConfigurationError, match="one task's mask alone"):
            write_overlap_plot(inspected(config, tasks={"one": 2}), tmp_path / "overlap.png")

    @pytest.mark.parametrize("name", ["overlap", "overlap.bmp"])
    def test_another_ending_is_refused(self, inspected, tmp_path, name):
        with pytest.raises(ConfigurationError, match=r"use one of \.png, \.svg, \.pdf"):
            write_overlap_plot(inspected(PrototypeConfig(bottleneck=3)), tmp_path / name)

    def test_nothing_to_compare(self, inspected, tmp_path):
        with pytest.raises(ConfigurationError, match=r"no masks to compare \(lora, unshared\)"):
            write_overlap_plot(
                inspected(PrototypeConfig(method="lora", rank=2, sharing="unshared")), tmp_path / "overlap.png"
            )

    def test_a_missing_matplotlib_is_named_with_its_extra(self, inspected, tmp_path, monkeypatch):
        monkeypatch.setitem(sys.modules, "matplotlib", None)
        with pytest.raises(MissingExtraError, match=r"pip install .*\[plot\]'"):
            write_overlap_plot(inspected(PrototypeConfig(bottleneck=3)), tmp_path / "overlap.png")


def test_inspecting_loads_no_torch():
    probe = (
        "import sys, propetl.inspection, propetl.cli.inspect; "
        "print(sorted({'torch', 'transformers', 'matplotlib'} & set(sys.modules)))"
    )
    done = subprocess.run([sys.executable, "-c", probe], cwd=ROOT, capture_output=True, text=True, timeout=60)
    assert done.stdout == "[]\n", done.stderr
