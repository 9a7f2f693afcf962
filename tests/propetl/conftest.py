"""Tiny backbones, loaded once for all tests of the method."""

import pytest
import torch

from propetl.backbone import Backbone, load_backbone
from propetl.families import FAMILIES
from tests.tiny_backbone import TEXT_VOCABULARY, VOCABULARY, tiny_backbone

# Tiny models gain nothing from threads, and wait for each other's on a busy machine.
torch.set_num_threads(1)


@pytest.fixture(scope="session")
def backbones(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Backbone]:
    """One for each family."""
    root = tmp_path_factory.mktemp("backbones")
    return {family: load_backbone(str(tiny_backbone(root / family, family))) for family in FAMILIES}


@pytest.fixture(scope="session")
def bert(backbones):
    return backbones["bert"]


ENCODERS = [name for name, family in FAMILIES.items() if family.kind == "encoder"]
ENCODER_DECODERS = [name for name, family in FAMILIES.items() if family.kind == "encoder-decoder"]
DECODERS = [name for name, family in FAMILIES.items() if family.kind == "decoder"]


@pytest.fixture(params=ENCODERS)
def backbone(request, backbones):
    """Of every family of encoders in turn."""
    return backbones[request.param]


@pytest.fixture(params=ENCODER_DECODERS)
def text_backbone(request, backbones):
    """Of every family of encoder-decoders in turn."""
    return backbones[request.param]


@pytest.fixture(scope="session")
def text():
    """A batch with padding: what every family takes."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, len(VOCABULARY), (3, 8), generator=generator)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] + [0] * 7])
    return {"input_ids": ids * mask, "attention_mask": mask}


@pytest.fixture(scope="session")
def asked():
    """A batch with padding for language models, and its answers, of which one is shorter."""
    generator = torch.Generator().manual_seed(6)
    ids = torch.randint(5, len(TEXT_VOCABULARY), (3, 8), generator=generator)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] + [0] * 7])
    labels = torch.randint(5, len(TEXT_VOCABULARY), (3, 4), generator=generator)
    labels[1, 2:] = -100
    return {"input_ids": ids * mask, "attention_mask": mask}, labels
