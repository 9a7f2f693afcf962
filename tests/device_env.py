"""A device: a fresh environment with the wheel and the extra ``cpu``, away from the source tree."""

import os
import shutil
import subprocess
import sys
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[1]

# What goes into the wheel, and what its build reads.
SOURCES = ("propetl", "cli", "export", "runtime", "pyproject.toml", "setup.py", "README.md", "LICENSE")


@dataclass(frozen=True)
class Device:
    """Python and ``propetl`` of an environment as a device has it.

    Attributes:
        folder: the environment.
        home: an empty folder; commands run there, so that nothing is imported from the source tree.
    """

    folder: Path
    home: Path

    @property
    def python(self) -> Path:
        """The environment's interpreter."""
        return self.folder / "bin" / "python"

    @property
    def propetl(self) -> Path:
        """The console script."""
        return self.folder / "bin" / "propetl"

    def run(
        self,
        *command: str | Path,
        text_in: str | None = None,
        env: Mapping[str, str] | None = None,
        timeout: float = 300,
    ) -> subprocess.CompletedProcess[str]:
        """Run ``command`` on the device and return what it printed; the caller looks at the exit code."""
        return subprocess.run(
            [str(part) for part in command],
            cwd=self.home,
            env=_clean_environment() | dict(env or {}),
            input="" if text_in is None else text_in,
            capture_output=True,
            text=True,
            timeout=timeout,
        )

    def python_prints(self, code: str) -> str:
        """Run Python ``code`` on the device; return its standard output, or fail with its standard error."""
        done = self.run(self.python, "-c", code)
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


def _source(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A copy: setuptools leaves a build folder behind, and a later build would pick stale modules from it."""
    source = tmp_path_factory.mktemp("source")
    for name in SOURCES:
        _copy(ROOT / name, source / name)
    return source


@pytest.fixture(scope="session")
def sdist(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source distribution, built as the wheel is."""
    out = tmp_path_factory.mktemp("sdist")
    code = "import os, sys, setuptools.build_meta as b; os.chdir(sys.argv[1]); b.build_sdist(sys.argv[2])"
    _checked(sys.executable, "-c", code, str(_source(tmp_path_factory)), str(out))
    (built,) = out.glob("*.tar.gz")
    return built


@pytest.fixture(scope="session")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The wheel built from the source tree as it is; no network."""
    source = _source(tmp_path_factory)
    out = tmp_path_factory.mktemp("wheel")
    build = [sys.executable, "-m", "pip", "wheel", "--no-deps", "--no-build-isolation"]
    _checked(*build, "--wheel-dir", str(out), str(source))
    (built,) = out.glob("*.whl")
    return built


@pytest.fixture(scope="session")
def device(wheel: Path, tmp_path_factory: pytest.TempPathFactory) -> Device:
    """A fresh environment with the wheel and the extra ``cpu``, made once for all tests that ask for it."""
    folder = tmp_path_factory.mktemp("device")
    made = Device(folder / "venv", folder / "home")
    made.home.mkdir()
    _checked(sys.executable, "-m", "venv", str(made.folder))
    _checked(str(made.python), str(ROOT / "tools" / "install_locked.py"), "cpu")
    _checked(str(made.python), "-m", "pip", "install", "--no-deps", str(wheel))
    return made


def _copy(source: Path, target: Path) -> None:
    if source.is_dir():
        shutil.copytree(source, target, symlinks=True, ignore=shutil.ignore_patterns("__pycache__"))
    else:
        shutil.copy2(source, target)


def _checked(*command: str) -> None:
    done = subprocess.run(command, env=_clean_environment(), capture_output=True, text=True, timeout=600)
    assert done.returncode == 0, f"{' '.join(command)}\n{done.stdout}\n{done.stderr}"


def _clean_environment() -> dict[str, str]:
    """This process's environment without what would show the source tree or other installs to Python."""
    hidden = {"PYTHONPATH", "PYTHONHOME", "VIRTUAL_ENV", "__PYVENV_LAUNCHER__"}
    kept = {name: value for name, value in os.environ.items() if name not in hidden}
    return kept | {"PYTHONNOUSERSITE": "1"}
