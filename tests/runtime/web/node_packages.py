"""Node, the packages of npm in ``node_modules``, and Chromium: needed by the tests here, and by nothing else."""

import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

import pytest

HERE = Path(__file__).parent
PACKAGES = HERE / "node_modules"

# Set by .ci/run, which installs all of them: a test that cannot run is a failure there.
REQUIRED = "PROPETL_WEB_TESTS"


def need(what: str, found: bool, remedy: str) -> None:
    """Skips the test, or fails where these tests are required, unless ``what`` was found."""
    if found:
        return
    missing = f"{what} is missing: {remedy}"
    if os.environ.get(REQUIRED) == "required":
        pytest.fail(missing)
    pytest.skip(missing)


def need_node() -> None:
    """Node 20 and what package-lock.json names."""
    need("node", shutil.which("node") is not None, "install Node 20 or newer")
    need("node_modules", (PACKAGES / ".package-lock.json").is_file(), f"npm ci --ignore-scripts --prefix {HERE}")


def chromium() -> str:
    """Path of the browser."""
    found = shutil.which("chromium")
    need("chromium", found is not None, "apt-get install chromium")
    return str(found)


def node(script: str, *arguments: str, given: Any = None, timeout: float = 300) -> Any:
    """What a script beside this file prints, as JSON; ``given`` is its input."""
    command = ["node", str(HERE / script), *arguments]
    done = subprocess.run(command, input=json.dumps(given), capture_output=True, text=True, timeout=timeout)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


def with_packages(web: Path) -> Path:
    """The folder ``web`` of an artifact, after what `npm install` does there."""
    (web / "node_modules").symlink_to(PACKAGES)
    return web
