"""Tiny artifacts: one to read, and fresh ones to damage."""

import pytest

from tests.runtime.engines.planned import TARGETS, Machine, write_planned
from tests.runtime.tiny_artifact import Tiny, write_tiny_artifact


@pytest.fixture(scope="session")
def tiny(tmp_path_factory) -> Tiny:
    """An artifact that no test changes."""
    return write_tiny_artifact(tmp_path_factory.mktemp("tiny") / "artifact")


@pytest.fixture(scope="session")
def staged(tmp_path_factory) -> Tiny:
    """The same artifact with stages: no test changes it."""
    return write_tiny_artifact(tmp_path_factory.mktemp("staged") / "artifact", staged=True)


@pytest.fixture
def own_staged(tmp_path) -> Tiny:
    """An artifact with stages that the test may change."""
    return write_tiny_artifact(tmp_path / "artifact", staged=True)


@pytest.fixture
def own_tiny(tmp_path) -> Tiny:
    """An artifact that the test may change."""
    return write_tiny_artifact(tmp_path / "artifact")


@pytest.fixture
def machine(monkeypatch, tmp_path):
    """A machine with a GPU, TensorRT and TensorRT for RTX, all of them doubles."""
    return Machine(monkeypatch, tmp_path)


@pytest.fixture(params=TARGETS)
def provider(request):
    """Each provider of plans."""
    return request.param


@pytest.fixture
def planned(provider, tmp_path):
    """A tiny artifact with plans for ``provider``."""
    return write_planned(tmp_path / "artifact", TARGETS[provider])
