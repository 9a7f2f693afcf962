"""One exported artifact for tests that look at files, not at numbers."""

import pytest

from propetl.export.writer import ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import ALL_FORMS, Case, Exported, make


@pytest.fixture(scope="session")
def exported(tmp_path_factory: pytest.TempPathFactory) -> Exported:
    """A masked adapter on BERT, in all forms and bare."""
    case = Case("bert", PrototypeConfig(bottleneck=6, sparsity=0.4))
    return make(tmp_path_factory.mktemp("exported"), case, ExportOptions(forms=(*ALL_FORMS, "bare")))
