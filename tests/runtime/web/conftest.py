"""A page's module beside tiny artifacts."""

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from propetl.export.web_page import add_page
from tests.runtime.tiny_artifact import Tiny
from tests.runtime.web.node_packages import need_node, node, with_packages
from tests.runtime.web.web_artifact import write_web_artifact


@pytest.fixture(scope="session", autouse=True)
def _node() -> None:
    need_node()


@pytest.fixture(scope="session")
def module(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The module as an export leaves it, its packages installed."""
    folder = tmp_path_factory.mktemp("page")
    add_page(folder)
    return with_packages(folder / "web")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Tiny:
    """An artifact that no test changes."""
    return write_web_artifact(tmp_path_factory.mktemp("tiny") / "artifact")


@pytest.fixture
def own_tiny(tmp_path: Path) -> Tiny:
    """An artifact that the test may change."""
    return write_web_artifact(tmp_path / "artifact")


@pytest.fixture(scope="session")
def ask(module: Path) -> Any:
    """Runs steps in a session of JavaScript, ``ask(artifact, steps, **options)``; ``ask.many`` takes many of these."""

    def many(cases: Iterable[tuple[Path, list[Any], dict[str, Any]]]) -> Any:
        all_cases = [{"artifact": str(path), "steps": steps, "options": options} for path, steps, options in cases]
        return node("ask.mjs", given={"module": str(module), "cases": all_cases})

    def asked(artifact: Path, steps: list[Any], **options: Any) -> Any:
        return many([(artifact, steps, options)])[0]

    asked.many = many
    return asked
