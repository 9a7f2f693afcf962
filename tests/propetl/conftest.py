"""Tiny backbones, loaded once for all tests of the method."""

import pytest
import torch

from propetl.backbone import Backbone, load_backbone
from propetl.families import FAMILIES
from tests.tiny_backbone import VOCABULARY, tiny_backbone

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


@pytest.fixture(params=list(FAMILIES))
def backbone(request, backbones):
    """Of every family in turn."""
    return backbones[request.param]


@pytest.fixture(scope="session")
def text():
    """A batch with padding: what every family takes."""
    generator = torch.Generator().manual_seed(5)
    ids = torch.randint(5, len(VOCABULARY), (3, 8), generator=generator)
    mask = torch.tensor([[1] * 8, [1] * 5 + [0] * 3, [1] + [0] * 7])
    return {"input_ids": ids * mask, "attention_mask": mask}
