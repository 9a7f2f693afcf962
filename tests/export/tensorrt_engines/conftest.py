"""One small artifact of each method, in all forms, to build engines from."""

from pathlib import Path

import pytest

from propetl.export.options import ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import ALL_FORMS, Case, Exported, make

CONFIGS = {
    "lora": PrototypeConfig("lora", rank=3, alpha=4.5),
    "prefix": PrototypeConfig("prefix", prefix_length=3),
    "hybrid": PrototypeConfig(bottleneck=5, masks="hybrid", combine="add", languages=("de", "en")),
}


@pytest.fixture(scope="session")
def made(exported: Exported, tmp_path_factory: pytest.TempPathFactory):
    """A function from a method to its artifact, exported when first asked for."""
    found = {"adapter": exported}

    def of(method: str) -> Exported:
        if method not in found:
            folder: Path = tmp_path_factory.mktemp(method)
            found[method] = make(folder, Case("bert", CONFIGS[method]), ExportOptions(forms=ALL_FORMS))
        return found[method]

    return of
