"""A repository of a hand-made artifact, and Triton's own definition of a configuration to read it with."""

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from propetl.export.triton_repository.writer import add_repository
from propetl.runtime.artifact import read_manifest
from tests.export.triton_repository.client import CLIENT, read_configs
from tests.runtime.tiny_artifact import Tiny, write_tiny_artifact


@pytest.fixture(scope="session")
def served(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """An artifact with all forms and a repository."""
    tiny = write_tiny_artifact(tmp_path_factory.mktemp("served") / "artifact")
    manifest = read_manifest(tiny.path).manifest
    add_repository(tiny.path, replace(manifest), max_batch=8, standalone=False)
    return tiny


@pytest.fixture(scope="session")
def client_python(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Python of an environment with Triton's client."""
    folder = tmp_path_factory.mktemp("tritonclient")
    python = folder / "bin" / "python"
    for command in ([sys.executable, "-m", "venv", str(folder)], [str(python), "-m", "pip", "install", "-q", CLIENT]):
        done = subprocess.run(command, capture_output=True, text=True, timeout=300)
        assert done.returncode == 0, done.stderr
    return python


@pytest.fixture(scope="session")
def configs(served: Tiny, client_python: Path) -> dict[str, dict[str, Any]]:
    """Every ``config.pbtxt`` as Triton's own definition reads it, by model."""
    paths = sorted((served.path / "triton").glob("*/config.pbtxt"))
    read = read_configs(client_python, paths)
    return {path.parent.name: config for path, config in zip(paths, read, strict=True)}
