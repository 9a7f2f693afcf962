"""Fixtures for all tests."""

import os
from pathlib import Path
from typing import Any

import pytest

import propetl  # before any test loads ONNX Runtime, whose telemetry it turns off

# Traced graphs are kept from one export to the next, and shared by the processes that run tests.
os.environ.setdefault("PROPETL_TRACES", str(Path(propetl.__file__).resolve().parents[1] / ".pytest_cache" / "traces"))

# `wheel` and `device`: what a device installs.
pytest_plugins = ["tests.device_env"]


@pytest.fixture(scope="session")
def text_artifact(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """A tiny T5 with an adapter, three tasks that answer in text, in all forms."""
    # Imported here: most tests need no torch.
    from propetl.prototypes.spec import PrototypeConfig
    from tests.export.random_text_artifact import make_text_artifact

    config = PrototypeConfig(bottleneck=5, activation="gelu_new")
    return make_text_artifact(tmp_path_factory.mktemp("text_artifact"), config)


@pytest.fixture(scope="session")
def glue_dir() -> Path:
    """The folder with GLUE's TSVs: $PROPETL_DATA/glue, or ../shared/data/glue beside the project."""
    root = Path(propetl.__file__).resolve().parents[1]
    data = os.environ.get("PROPETL_DATA")
    folder = Path(data) / "glue" if data else root.parent / "shared" / "data" / "glue"
    if not folder.is_dir() and not data:
        pytest.skip(f"no GLUE data at {folder}: set PROPETL_DATA to the folder that holds glue/")
    assert folder.is_dir(), f"PROPETL_DATA is {data}, which holds no folder glue"
    return folder
