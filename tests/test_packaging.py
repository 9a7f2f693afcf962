"""The distribution: what it contains, what it needs, and that a device can install and start it."""

import json
import os
import tomllib
import zipfile
from importlib.metadata import PackageNotFoundError, version
from itertools import chain
from pathlib import Path

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


def requirements(lines: list[str]) -> dict[str, Requirement]:
    """Requirements by the canonical name of their distribution."""
    return {canonicalize_name(found.name): found for found in map(Requirement, lines)}


def constraints() -> dict[str, Requirement]:
    lines = (ROOT / "constraints.txt").read_text().splitlines()
    return requirements([line for line in lines if line and not line.startswith("#")])


def test_package_list_equals_the_folders_on_disk() -> None:
    on_disk = {str(Path(file).parent).replace("/", ".") for file in module_files()}
    listed = PROJECT["tool"]["setuptools"]["packages"]
    assert set(listed) == on_disk
    assert listed == sorted(set(listed))


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
            here[str(pin)] = Version(version(name)).public
        except PackageNotFoundError:
            continue
    assert len(here) > 50
    assert {pin: found for pin, found in here.items() if pin.partition("==")[2] != found} == {}


def test_no_extra_installs_both_distributions_of_onnxruntime() -> None:
    for name, lines in EXTRAS.items():
        assert len({"onnxruntime", "onnxruntime-gpu"} & set(requirements(lines))) <= 1, name


@pytest.mark.slow
def test_wheel_holds_the_packages_and_nothing_else(wheel: Path) -> None:
    with zipfile.ZipFile(wheel) as archive:
        names = {name for name in archive.namelist() if ".dist-info/" not in name}
        extra = {Path(name).name for name in archive.namelist() if ".dist-info/" in name}
    assert names == module_files() | {"propetl/py.typed"}
    assert "propetl/runtime/__init__.py" in names
    assert {"LICENSE", "entry_points.txt", "METADATA"} <= extra


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
