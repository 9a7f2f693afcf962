"""An imported T5 checkpoint computes what the reference's equations say: hybrid masks, or masks in every block."""

from dataclasses import dataclass, field

import numpy as np
import pytest
import torch
from torch import Tensor

from propetl.backbone import load_backbone
from propetl.bits import unpack
from propetl.bundle import read_bundle
from propetl.errors import BundleError, ConfigurationError
from propetl.model import ProPETLModel
from propetl.reference_import.convert import import_checkpoint
from propetl.reference_import.options import ImportOptions
from tests.propetl.plain_encoder_decoders import Extra, PlainT5, gelu_new
from tests.tiny_backbone import TEXT_VOCABULARY, tiny_backbone

HIDDEN, WIDTH, ENCODER, DECODER = 24, 6, 2, 3
GLUE = ("rte", "stsb", "cola")
COMBINE = {
    "or": lambda layer, task: 1 - (1 - layer) * (1 - task),
    "and": lambda layer, task: layer * task,
    "add": lambda layer, task: layer + task,
}

Masks = dict[str, Tensor]


@dataclass
class T5File:
    """A state dict in the reference's layout, and what its code would run.

    Attributes:
        tensors: ``propetl_weight.bin``.
        prototypes: by stack, down weight and bias, up weight and bias.
        layers: mask of each slot, ``down`` and ``up``; empty without hybrid masks.
        tasks: by task, its mask in each slot.
    """

    tensors: dict[str, Tensor] = field(default_factory=dict)
    prototypes: dict[str, list[Tensor]] = field(default_factory=dict)
    layers: list[Masks] = field(default_factory=list)
    tasks: dict[str, list[Masks]] = field(default_factory=dict)

    def save(self, folder):
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(self.tensors, folder / "propetl_weight.bin")
        return folder

    def logits(self, model, task: str, combine: str, inputs, decoder_ids) -> Tensor:
        """The reference's equations in float64."""
        extras = [self._extra(task, slot, combine) for slot in range(ENCODER + DECODER)]
        return PlainT5(model)(inputs, decoder_ids, extras[:ENCODER], extras[ENCODER:])

    def _extra(self, task: str, slot: int, combine: str) -> Extra:
        masks = {part: mask.double() for part, mask in self.tasks[task][slot].items()}
        if self.layers:
            masks = {part: COMBINE[combine](self.layers[slot][part].double(), mask) for part, mask in masks.items()}
        prototype = self.prototypes["encoder" if slot < ENCODER else "decoder"]
        down, down_bias, up, up_bias = (value.double() for value in prototype)
        return Extra({"ffn": (down * masks["down"], down_bias, up * masks["up"], up_bias)}, gelu_new)


def t5_file(tasks=GLUE, *, hybrid: bool = True, kept: float = 0.3, each: bool = False) -> T5File:
    """Every shared tensor once, in the order in which the reference's modules name them; ``each``: an adapter each."""
    random = torch.Generator().manual_seed(5)
    shapes = ((WIDTH, HIDDEN), (WIDTH,), (HIDDEN, WIDTH), (HIDDEN,))
    file = T5File()
    names = ("down_sampler.weight", "down_sampler.bias", "up_sampler.weight", "up_sampler.bias")
    for stack, layer in (("encoder", 1), ("decoder", 2)):
        if stack == "decoder" and not each:
            file.prototypes[stack] = file.prototypes["encoder"]
            continue
        at = f"{stack}.block.0.layer.{layer}.adapter_controller"
        file.prototypes[stack] = [0.3 * torch.randn(shape, generator=random) for shape in shapes]
        for name, value in zip(names, file.prototypes[stack], strict=True):
            file.tensors[f"{at}.adapters.common_adapter.{name}"] = value
    places = [f"encoder.block.{block}.layer.1.adapter_controller" for block in range(ENCODER)]
    places += [f"decoder.block.{block}.layer.2.adapter_controller" for block in range(DECODER)]
    for slot, place in enumerate(places):
        here = {task: _masks(random, kept) for task in tasks}
        for task in tasks:
            first = file.tasks.setdefault(task, [])
            first.append(first[0] if hybrid and slot else here[task])
        if hybrid:
            # In the first block the layer's mask is the parameter of the last task's, which stands there already.
            file.layers.append(here[tasks[-1]])
        written = {} if hybrid and slot else here
        written = written | ({"layer": here[tasks[-1]]} if hybrid and slot else {})
        for name, masks in written.items():
            for part, mask in masks.items():
                file.tensors[f"{place}.mask_scores.{name}_{part}_mask.param"] = mask
    return file


def _masks(random: torch.Generator, kept: float) -> Masks:
    masks = {}
    for part, shape in (("down", (WIDTH, HIDDEN)), ("up", (HIDDEN, WIDTH))):
        order = torch.rand(shape, generator=random).flatten().argsort()
        mask = torch.ones(len(order), dtype=torch.bool)
        mask[order[: int((1 - kept) * len(order))]] = False
        masks[part] = mask.view(shape)
    return masks


@pytest.fixture(scope="module")
def backbone(tmp_path_factory):
    return load_backbone(str(tiny_backbone(tmp_path_factory.mktemp("t5") / "t5", "t5", hidden=HIDDEN, layers=ENCODER)))


@pytest.fixture
def bring_in(backbone, tmp_path):
    def run(file, **options):
        chosen = ImportOptions(**{"backbone": backbone.info.name} | options)
        imported = import_checkpoint(file.save(tmp_path / "outputs"), tmp_path / "bundle", chosen)
        bundle = read_bundle(tmp_path / "bundle")
        return imported, bundle, ProPETLModel.from_bundle(bundle, backbone)

    return run


def check_logits(file, model, combine="or"):
    random = np.random.default_rng(0)
    for task in file.tasks:
        ids = torch.from_numpy(random.integers(5, len(TEXT_VOCABULARY), size=(3, 9)))
        mask = torch.ones_like(ids)
        mask[1, 6:] = 0
        inputs = {"input_ids": ids, "attention_mask": mask}
        labels = torch.from_numpy(random.integers(5, len(TEXT_VOCABULARY), size=(3, 4)))
        started = torch.cat([torch.zeros(3, 1, dtype=torch.int64), labels[:, :-1]], dim=1)
        with torch.no_grad():
            found = model(task, **inputs, labels=labels).logits
        expected = file.logits(model.network, task, combine, inputs, started)
        np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("combine", ["or", "and", "add"])
def test_hybrid_masks(bring_in, combine):
    file = t5_file()
    imported, bundle, model = bring_in(file, combine=combine)
    config = bundle.info.prototype
    assert (config.masks, config.combine, config.sparsity, config.bottleneck) == ("hybrid", combine, 0.3, WIDTH)
    assert config.activation == "gelu_new"
    assert imported.not_mapped == ()
    check_logits(file, model, combine)


def test_the_layer_mask_of_the_first_block_is_the_last_tasks(bring_in):
    file = t5_file()
    _, bundle, _ = bring_in(file)
    layers = unpack(bundle.shared_masks.layers["down.weight"], WIDTH * HIDDEN)
    assert np.array_equal(layers[0], file.tasks["cola"][0]["down"].flatten().numpy())
    assert np.array_equal(layers[1], file.tensors[_mask("encoder.block.1.layer.1", "layer", "down")].flatten().numpy())


def test_a_file_that_names_the_first_blocks_mask_is_taken_at_its_word(bring_in):
    file = t5_file()
    own = _masks(torch.Generator().manual_seed(9), 0.3)
    file.layers[0] = own
    for part, mask in own.items():
        file.tensors[_mask("encoder.block.0.layer.1", "layer", part)] = mask
    _, _, model = bring_in(file)
    check_logits(file, model)


def test_a_mask_in_every_block(bring_in):
    """Single-task runs: XSum and WMT."""
    file = t5_file(("xsum",), hybrid=False, kept=0.5)
    imported, bundle, model = bring_in(file)
    assert (bundle.info.prototype.masks, bundle.info.prototype.sparsity) == ("layer", 0.5)
    assert imported.not_mapped == ()
    check_logits(file, model)


@pytest.mark.parametrize("hybrid", [True, False], ids=["hybrid", "layer"])
def test_an_adapter_each_for_encoder_and_decoder(bring_in, hybrid):
    file = t5_file(each=True, hybrid=hybrid)
    imported, bundle, model = bring_in(file)
    assert (bundle.info.prototype.scope, bundle.info.prototype.sparsity) == ("stack", 0.3)
    assert imported.not_mapped == ()
    pack = bundle.packs["rte"].masks
    shared = np.array_equal(pack["encoder.up.weight"], pack["decoder.up.weight"])
    assert shared == hybrid  # of a task, the reference has one mask for both adapters
    check_logits(file, model)


def test_tasks_are_asked_as_the_reference_asks_them(bring_in):
    imported, bundle, _ = bring_in(t5_file((*GLUE, "xsum", "other")))
    infos = bundle.info.tasks
    assert infos["rte"].text.prompt == "sentence1: {} sentence2: {}"  # without the task's name
    assert infos["rte"].text.words == ("0", "1")
    assert infos["stsb"].text.step == 0.2
    assert infos["xsum"].text.prompt == "summarize: {}" and infos["xsum"].text.num_beams == 6
    assert any("task other is asked 'other text: {}'" in line for line in imported.assumed)
    assert any("combined by or (--combine)" in line for line in imported.assumed)
    assert bundle.samples("rte")["input_ids"].shape[0] == 4


def test_the_model_generates(bring_in, backbone):
    _, _, model = bring_in(t5_file())
    with torch.no_grad():
        ids = torch.tensor([[7, 8, 9, 1]])
        answers = model.generate("rte", {"input_ids": ids, "attention_mask": torch.ones_like(ids)})
    assert len(answers) == 1


def test_other_tensors_are_named(bring_in):
    file = t5_file()
    file.tensors["encoder.final_layer_norm.weight"] = torch.ones(HIDDEN)
    imported, _, _ = bring_in(file)
    assert imported.not_mapped == ("propetl_weight.bin: encoder.final_layer_norm.weight",)


class TestRefused:
    @pytest.fixture
    def refuse(self, backbone, tmp_path):
        def check(file, words, error=BundleError, **options):
            chosen = ImportOptions(**{"backbone": backbone.info.name} | options)
            with pytest.raises(error, match=words) as caught:
                import_checkpoint(file.save(tmp_path / "outputs"), tmp_path / "out", chosen)
            assert "\n" not in str(caught.value)
            assert not (tmp_path / "out").exists()

        return check

    def test_no_backbone(self, refuse):
        refuse(t5_file(), "name it with --backbone", ConfigurationError, backbone=None)

    def test_a_name_for_all_of_its_tasks(self, refuse):
        refuse(t5_file(), "--task: propetl_weight.bin names its tasks itself", ConfigurationError, task="mine")

    def test_an_encoder(self, refuse, tmp_path):
        other = str(tiny_backbone(tmp_path / "bert"))
        refuse(t5_file(), "was trained on a T5 or mT5; .* is bert", ConfigurationError, backbone=other)

    def test_a_block_that_is_missing(self, refuse):
        file = t5_file()
        del file.tensors[_mask("decoder.block.2.layer.2", "layer", "up")]
        refuse(file, r"it has no tensor 'decoder\.block\.2\.layer\.2.*layer_up_mask")

    def test_half_an_adapter_in_the_decoder(self, refuse):
        file = t5_file()
        name = "decoder.block.0.layer.2.adapter_controller.adapters.common_adapter.up_sampler.bias"
        file.tensors[name] = torch.zeros(HIDDEN)
        refuse(file, r"it has no tensor 'decoder\.block\.0\.layer\.2.*down_sampler")

    def test_an_adapter_in_every_block(self, refuse):
        file = t5_file()
        name = "encoder.block.1.layer.1.adapter_controller.adapters.common_adapter.up_sampler.bias"
        file.tensors[name] = torch.zeros(HIDDEN)
        refuse(file, "only an adapter that all blocks of encoder and decoder share, or one for each of the two")

    def test_a_file_without_masks(self, refuse):
        file = t5_file()
        file.tensors = {name: value for name, value in file.tensors.items() if "mask_scores" not in name}
        refuse(file, "1 adapters and 0 masks")

    def test_a_mask_of_another_shape(self, refuse):
        file = t5_file()
        name = _mask("encoder.block.1.layer.1", "layer", "down")
        file.tensors[name] = file.tensors[name].T
        refuse(file, r"a mask of down.weight has shape \[24, 6\], expected \[6, 24\]")


def _mask(place: str, name: str, part: str) -> str:
    return f"{place}.adapter_controller.mask_scores.{name}_{part}_mask.param"
