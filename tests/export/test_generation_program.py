"""The parts of an encoder-decoder with the task's tensors as arguments, run eagerly against the model."""

from itertools import product

import numpy as np
import pytest
import torch

from propetl.backbone import load_backbone
from propetl.bundle import read_bundle, write_bundle
from propetl.export.generation_program import PartProgram
from propetl.export.graphs import bank_of
from propetl.model import ProPETLModel
from propetl.prototypes.spec import PrototypeConfig
from propetl.runtime.generation.parts import DECODER, ENCODER, ENCODER_MASK, ENCODER_STATES
from tests.export.random_text_artifact import TASKS, prompts
from tests.tiny_backbone import tiny_backbone
from tests.tiny_bundle import random_contents

EACH = {"scope": "stack"}
KINDS = {
    "layer": {},
    "hybrid": {"masks": "hybrid", "languages": ("de", "en")},
    "each": EACH,
    "each-hybrid-or": EACH | {"masks": "hybrid"},
    "each-hybrid-and": EACH | {"masks": "hybrid", "combine": "and", "languages": ("de", "en")},
    "each-hybrid-add": EACH | {"masks": "hybrid", "combine": "add"},
    "each-only-layers": EACH | {"masks": "only-layers"},
    "each-only-tasks": EACH | {"masks": "only-tasks"},
    "tasks": {"sharing": "tasks"},
}
CASES = list(product(("t5", "mt5", "bart"), ("adapter", "lora", "prefix"), KINDS))


@pytest.fixture(scope="module")
def backbones(tmp_path_factory):
    root = tmp_path_factory.mktemp("backbones")
    return {family: load_backbone(str(tiny_backbone(root / family, family, hidden=20))) for family, *_ in CASES}


@pytest.fixture(params=CASES, ids="-".join)
def made(request, backbones, tmp_path):
    """Sizes that fill no whole bytes, stacks of different depths, an adapter at two sites."""
    family, method, kind = request.param
    sizes = {"bottleneck": 3, "sites": ("attention", "ffn"), "rank": 3, "alpha": 4.5, "prefix_length": 3}
    config = PrototypeConfig(method=method, **sizes, **KINDS[kind])
    backbone = backbones[family]
    texts = {name: info.text for name, info in TASKS.items()}
    contents = random_contents(config, backbone.info, texts, token_inputs=("input_ids", "attention_mask"))
    write_bundle(tmp_path / "bundle", contents)
    bundle = read_bundle(tmp_path / "bundle")
    return ProPETLModel.from_bundle(bundle, backbone), bundle


def first_logits(model, task, rows, inputs):
    """Of encoder and decoder, one after the other, as a device runs them."""
    encoder, decoder = (PartProgram(model, part, rows).eval() for part in (ENCODER, DECODER))
    with torch.no_grad():
        (states,) = encoder(inputs, task)
        start = torch.full((len(states), 1), model.network.config.decoder_start_token_id)
        asked = {"input_ids": start, ENCODER_STATES: states, ENCODER_MASK: inputs["attention_mask"]}
        return decoder(asked, task)[0][:, -1]


def torch_of(arrays):
    return {name: torch.from_numpy(np.ascontiguousarray(array)) for name, array in arrays.items()}


def close(found, expected):
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-5)


def test_parts_compute_what_the_model_does(made):
    model, bundle = made
    inputs = torch_of(prompts(np.random.default_rng(0), rows=5, length=9))
    expected = {}
    for task, pack in bundle.packs.items():
        with torch.no_grad():
            expected[task] = model(task, **inputs).logits[:, -1]
        close(first_logits(model, torch_of(pack.tensors()), False, inputs), expected[task])
    if bundle.info.layout.mask_shapes():
        first, *others = expected.values()
        assert all((first - other).abs().max() > 1e-2 for other in others)
    packs, task_ids = list(bundle.packs.values()), torch.tensor([2, 0, 1, 1, 0])
    rows = {name: tensor[task_ids] for name, tensor in torch_of(bank_of(packs)).items()}
    found = first_logits(model, rows, True, inputs)
    for row, task_id in enumerate(task_ids.tolist()):
        close(found[row], expected[packs[task_id].task][row])
