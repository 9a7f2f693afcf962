"""What importing the packages drags in, and which names they answer to."""

import json
import subprocess
import sys

import pytest

from tests.device_env import ROOT

# Prints the top-level modules that an import adds to a bare interpreter, but those of Python itself.
PROBE = """
import json, sys
before = {name.partition(".")[0] for name in sys.modules}
import importlib
importlib.import_module(sys.argv[1])
after = {name.partition(".")[0] for name in sys.modules}
print(json.dumps(sorted(after - before - sys.stdlib_module_names)))
"""


def run_python(code: str, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-c", code, *arguments], cwd=ROOT, capture_output=True, text=True, timeout=60
    )


@pytest.mark.parametrize(
    ("module", "allowed"),
    [
        ("propetl", {"propetl"}),
        ("propetl.runtime", {"propetl"}),
        ("propetl.cli.main", {"propetl", "click"}),
        ("propetl.bundle", {"propetl", "numpy", "safetensors"}),
    ],
)
def test_an_import_loads_only_what_is_allowed(module: str, allowed: set[str]) -> None:
    done = run_python(PROBE, module)
    assert done.returncode == 0, done.stderr
    assert set(json.loads(done.stdout)) <= allowed


@pytest.mark.parametrize("folder", ["cli", "export", "runtime"])
def test_a_folder_at_the_top_answers_to_its_full_name_only(folder: str) -> None:
    assert run_python(f"import propetl.{folder}").returncode == 0
    done = run_python(f"import {folder}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[-1] == f"ImportError: import 'propetl.{folder}', not '{folder}'"


def test_runtime_names_are_found_on_first_use() -> None:
    done = run_python("import propetl.runtime as r; print(r.Session.__module__, r.Prediction.__module__)")
    assert done.returncode == 0, done.stderr
    assert all(module.startswith("propetl.runtime.") for module in done.stdout.split())
    done = run_python("import propetl.runtime as r; r.Sesion")
    last_line = done.stderr.splitlines()[-1]
    assert last_line.startswith("AttributeError: module 'propetl.runtime' has no attribute 'Sesion'")
