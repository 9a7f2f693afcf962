"""Artifacts and bundles that many tests look at, made once."""

import pytest

from propetl.backbone import Backbone
from propetl.bundle import Bundle
from propetl.export.options import ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import ALL_FORMS, Case, Exported, make, random_bundle


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A masked adapter on BERT, in all forms and bare."""
    case = Case("bert", PrototypeConfig(bottleneck=6, sparsity=0.4))
    return make(tmp_path_factory.mktemp("exported"), case, ExportOptions(forms=(*ALL_FORMS, "bare")))


@pytest.fixture(scope="session")
def lora(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, Bundle]:
    """A masked LoRA of one layer, not exported."""
    case = Case("bert", PrototypeConfig("lora", rank=3, alpha=4.5), hidden=64, layers=1, tasks={"two": 2, "three": 3})
    return random_bundle(tmp_path_factory.mktemp("lora"), case)


@pytest.fixture(scope="session")
def plain(tmp_path_factory: pytest.TempPathFactory) -> tuple[Backbone, Bundle]:
    """A head alone on one layer, not exported: the quickest to trace."""
    case = Case("bert", PrototypeConfig("head"), layers=1, tasks={"two": 2})
    return random_bundle(tmp_path_factory.mktemp("plain"), case)
