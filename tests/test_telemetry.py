"""Libraries report nobody's use: their telemetry is off before they are loaded, in every process of ours."""

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

from propetl.runtime.engines.ort import onnxruntime_of
from tests.device_env import ROOT
from tests.runtime.tiny_artifact import write_tiny_artifact

SWITCHES = ("ORT_DISABLE_TELEMETRY", "HF_HUB_DISABLE_TELEMETRY")
KEPT = ("PATH", "LANG", "LC_ALL", "LD_LIBRARY_PATH", "PYTHONPATH", "OMP_NUM_THREADS", "OPENBLAS_CORETYPE", "TMPDIR")
FOLDERS = ("propetl", "cli", "export", "runtime", "examples", "benchmarks", "tools")
SHORT = ["--batch", "1", "--seq", "4", "--rounds", "1", "--seconds", "0.001"]

EXPORT = """
import sys
from pathlib import Path
from propetl.export.options import ExportOptions
from propetl.prototypes.spec import PrototypeConfig
from tests.export.random_artifact import Case, make
made = make(Path(sys.argv[1]), Case("bert", PrototypeConfig()), ExportOptions(("folded",), quantize="int8-static"))
"""
SESSION = """
import sys
from propetl.runtime import Session
with Session.open(sys.argv[1], threads=1) as session:
    session.predict("mood", ["good film"])
"""


@pytest.fixture(scope="module")
def artifact(tmp_path_factory):
    return write_tiny_artifact(tmp_path_factory.mktemp("telemetry") / "artifact").path


def python(home: Path, *arguments, **environment):
    """Runs Python as a user who never heard of the switches, in an empty home.

    Little of the environment is kept: the library also reads what tells it of a CI service, and is silent there.
    """
    kept = {name: os.environ[name] for name in KEPT if name in os.environ}
    line = [sys.executable, *map(str, arguments)]
    done = subprocess.run(
        line, cwd=ROOT, env=kept | {"HOME": str(home)} | environment, capture_output=True, text=True, timeout=300
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def files_in(folder: Path) -> list[str]:
    return sorted(str(path.relative_to(folder)) for path in folder.rglob("*") if not path.is_dir())


def test_the_library_does_leave_files_where_its_telemetry_is_on(tmp_path):
    """Or the tests below would prove nothing."""
    python(tmp_path, "-c", "import onnxruntime", ORT_DISABLE_TELEMETRY="0")
    assert any("deviceid" in name for name in files_in(tmp_path))


@pytest.mark.parametrize(
    "command",
    [
        ["predict", "--task", "mood", "good film"],
        ["validate"],
        ["tune"],
        ["bench", "--form", "folded", *SHORT],
    ],
    ids=lambda command: command[0],
)
def test_commands_leave_nothing_in_the_home_folder(tmp_path, artifact, command):
    name, *more = command
    python(tmp_path, "-m", "propetl", name, artifact, *more)
    assert files_in(tmp_path) == []


def test_a_session_leaves_nothing_in_the_home_folder(tmp_path, artifact):
    python(tmp_path, "-c", SESSION, artifact)
    assert files_in(tmp_path) == []


def test_an_export_leaves_nothing_in_the_home_folder(tmp_path):
    (tmp_path / "home").mkdir()
    (tmp_path / "work").mkdir()
    python(tmp_path / "home", "-c", EXPORT, tmp_path / "work")
    assert files_in(tmp_path / "home") == []
    assert (tmp_path / "work" / "artifact").is_dir()


def test_who_set_a_switch_keeps_his_choice(tmp_path):
    shown = "import propetl, os; print(*map(os.environ.get, ['ORT_DISABLE_TELEMETRY', 'HF_HUB_DISABLE_TELEMETRY']))"
    assert python(tmp_path, "-c", shown) == "1 1\n"
    assert python(tmp_path, "-c", shown, ORT_DISABLE_TELEMETRY="0", HF_HUB_DISABLE_TELEMETRY="0") == "0 0\n"


def test_the_process_of_the_tests_is_no_exception():
    onnxruntime_of("cpu")
    assert [os.environ.get(name) for name in SWITCHES] == ["1", "1"]


def loads_at_the_top(path: Path) -> bool:
    """Whether a module loads ONNX Runtime, or a package of it, when it is imported."""
    names = set()
    for node in ast.parse(path.read_text()).body:
        if isinstance(node, ast.Import):
            names |= {name.name for name in node.names}
        elif isinstance(node, ast.ImportFrom):
            names.add(node.module or "")
    return any("onnxruntime" in name.split(".") for name in names)


def test_modules_load_onnxruntime_inside_functions():
    """At the top, imports are sorted: third parties come before the line of ours that turns it off."""
    paths = [path for folder in FOLDERS for path in (ROOT / folder).rglob("*.py")]
    found = {str(path.relative_to(ROOT)) for path in paths if loads_at_the_top(path)}
    # Started by peers of ours alone; their package turns it off.
    assert found == {"benchmarks/peers/optimum_graphs.py"}
    assert "ORT_DISABLE_TELEMETRY" in (ROOT / "benchmarks" / "peers" / "__init__.py").read_text()


@pytest.mark.parametrize("model", ["tokenise", "answer"])
def test_models_for_triton_turn_it_off_in_their_process(tmp_path, model):
    code = f"from propetl.runtime.triton_server.{model} import TritonPythonModel; import os; print(*os.environ)"
    assert set(SWITCHES) <= set(python(tmp_path, "-c", code).split())
