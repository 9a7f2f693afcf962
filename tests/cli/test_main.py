"""The group: lazy commands, and what a user sees of an error."""

import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NoReturn

import click
import pytest
from click.testing import CliRunner, Result

from propetl import __version__
from propetl.cli.main import COMMANDS, main
from propetl.errors import BundleError, CheckFailed, ProPETLError
from propetl.installation import install_line
from tests.device_env import ROOT

NOT_COMMANDS = {
    "build_output",
    "__init__",
    "main",
    "failures",
    "engine_options",
    "generation_options",
    "json_output",
    "pickle_option",
    "provider_options",
    "streams",
    "validate_output",
}


@pytest.fixture
def outcome(monkeypatch: pytest.MonkeyPatch) -> Callable[..., Result]:
    """Runs ``propetl [flags] export`` with a command that raises the given error."""

    def run(error: BaseException, *flags: str) -> Result:
        def fail() -> NoReturn:
            raise error

        module = ModuleType("propetl.cli.export")
        module.command = click.command("export")(fail)
        monkeypatch.setitem(sys.modules, "propetl.cli.export", module)
        return CliRunner().invoke(main, [*flags, "export"])

    return run


def test_table_equals_the_modules_on_disk() -> None:
    modules = {path.stem for path in (ROOT / "cli").glob("*.py")} - NOT_COMMANDS
    assert set(COMMANDS) == modules


def test_help_lists_every_command_and_imports_none() -> None:
    code = (
        "import sys, click.testing; from propetl.cli.main import COMMANDS, main\n"
        "shown = click.testing.CliRunner().invoke(main, ['--help']).output\n"
        "assert all(line in shown for line in COMMANDS.values()), shown\n"
        "assert not {'propetl.cli.' + name for name in COMMANDS} & set(sys.modules)\n"
    )
    subprocess.run([sys.executable, "-c", code], cwd=ROOT, check=True, timeout=60)


def test_help_lines_fit_a_narrow_terminal() -> None:
    shown = CliRunner().invoke(main, ["--help"], terminal_width=80).output
    assert all(f"  {name} " in shown and line in shown for name, line in COMMANDS.items())


def test_version() -> None:
    assert CliRunner().invoke(main, ["--version"]).output == f"propetl {__version__}\n"


def test_an_unknown_command_is_told_which_there_are() -> None:
    result = CliRunner().invoke(main, ["trian"])
    assert result.exit_code == 2
    assert f"No such command 'trian'; there are {', '.join(COMMANDS)}." in result.stderr


@pytest.mark.parametrize(("error", "code"), [(BundleError("bad bundle"), 2), (CheckFailed("bad bundle"), 1)])
def test_an_error_is_one_line_on_stderr(outcome: Callable[..., Result], error: ProPETLError, code: int) -> None:
    result = outcome(error)
    assert (result.exit_code, result.stdout, result.stderr) == (code, "", "propetl: error: bad bundle\n")


def test_debug_shows_the_trace_and_keeps_the_line(outcome: Callable[..., Result]) -> None:
    result = outcome(BundleError("bad bundle"), "--debug")
    assert result.exit_code == 2
    assert "Traceback (most recent call last)" in result.stderr
    assert result.stderr.endswith("\npropetl: error: bad bundle\n")


def test_the_line_is_red_on_a_terminal(outcome: Callable[..., Result]) -> None:
    outcome(BundleError("bad bundle"))
    result = CliRunner().invoke(main, ["export"], color=True)
    assert result.stderr == "\x1b[31mpropetl: error: bad bundle\x1b[0m\n"


def test_names_from_a_file_cannot_break_or_colour_the_line(outcome: Callable[..., Result]) -> None:
    result = outcome(BundleError("task 'a\nb\x1b[2J\x07' is unknown"))
    assert result.stderr == "propetl: error: task 'a b[2J' is unknown\n"


@pytest.mark.parametrize(
    ("error", "line"),
    [
        (PermissionError(errno.EACCES, "Permission denied", "out/x"), "no permission for 'out/x': "),
        (
            OSError(errno.ENOSPC, "No space left on device", "out/x"),
            "no space left on the disk for 'out/x': ",
        ),
        (OSError(errno.ENOSPC, "No space left on device"), "no space left on the disk for the output: "),
        (FileNotFoundError(errno.ENOENT, "Not there", "out/x"), "Not there: 'out/x'"),
        (OSError("cannot reach the hub\n for 'm'"), "cannot reach the hub for 'm'"),
        (OSError(), "OSError"),
    ],
)
def test_an_operating_system_error_is_one_line(outcome: Callable[..., Result], error: OSError, line: str) -> None:
    result = outcome(error)
    assert result.exit_code == 2
    assert result.stderr.startswith(f"propetl: error: {line}")
    assert result.stderr.count("\n") == 1


def test_interrupt(outcome: Callable[..., Result]) -> None:
    result = outcome(KeyboardInterrupt())
    assert (result.exit_code, result.stderr) == (130, "propetl: interrupted\n")


def test_a_defect_of_ours_keeps_its_trace(outcome: Callable[..., Result]) -> None:
    assert isinstance(outcome(ZeroDivisionError("ours")).exception, ZeroDivisionError)


def write_command(folder: Path, name: str, code: str) -> list[str]:
    """A command line that runs ``propetl name`` with a module of that code in place of the real one."""
    (folder / f"{name}.py").write_text(code)
    start = (
        "import importlib.util as u, sys\n"
        f"spec = u.spec_from_file_location('propetl.cli.{name}', sys.argv.pop(1))\n"
        "def find(wanted, path=None, target=None):\n"
        "    return spec if wanted == spec.name else None\n"
        "sys.meta_path.insert(0, type('Finder', (), {'find_spec': staticmethod(find)}))\n"
        "from propetl.cli.main import main\n"
        f"main(['{name}'], prog_name='propetl')\n"
    )
    return [sys.executable, "-c", start, str(folder / f"{name}.py")]


def run_command(folder: Path, name: str, code: str) -> subprocess.CompletedProcess[str]:
    line = write_command(folder, name, code)
    return subprocess.run(line, cwd=ROOT, capture_output=True, text=True, timeout=60)


def started(line: list[str]) -> subprocess.Popen[str]:
    """A process that Ctrl-C reaches as from a terminal: a job in the background inherits that it is ignored."""
    pipe = subprocess.PIPE
    return subprocess.Popen(line, cwd=ROOT, stdout=pipe, stderr=pipe, text=True, preexec_fn=_listen_to_control_c)


def _listen_to_control_c() -> None:
    signal.signal(signal.SIGINT, signal.default_int_handler)


COMMAND = "import click\n@click.command()\ndef command():\n"


@pytest.mark.parametrize(
    ("command", "module", "extra"),
    [
        ("train", "torch", "train"),
        ("export", "torch", "export"),
        ("validate", "transformers", "export"),
        ("train", "datasets", "train"),
        ("predict", "onnxruntime", "cpu"),
        ("bench", "matplotlib", "plot"),
        ("bench", "tensorrt_rtx", "rtx"),
    ],
)
@pytest.mark.parametrize("place", ["module", "command"])
def test_a_missing_extra_is_named(tmp_path: Path, command: str, module: str, extra: str, place: str) -> None:
    hide = (
        "import sys\n"
        "def find(name, path=None, target=None):\n"
        f"    if name == {module!r}: raise ModuleNotFoundError(f'No module named {{name!r}}', name=name)\n"
        "sys.meta_path.insert(0, type('Hide', (), {'find_spec': staticmethod(find)}))\n"
    )
    at_the_top, inside = f"import {module}\n{COMMAND}    pass\n", f"{COMMAND}    import {module}\n"
    done = run_command(tmp_path, command, hide + (at_the_top if place == "module" else inside))
    assert done.returncode == 2, done.stderr
    line = f"propetl {command} needs '{module}', which is not installed: {install_line(extra)}"
    assert done.stderr == f"propetl: error: {line}\n"


def test_a_missing_module_that_no_extra_brings_is_a_defect(tmp_path: Path) -> None:
    done = run_command(tmp_path, "bench", "import no_such_module\n")
    assert done.returncode == 1
    assert done.stderr.endswith("ModuleNotFoundError: No module named 'no_such_module'\n")


def test_a_missing_part_of_an_installed_module_is_a_defect(tmp_path: Path) -> None:
    done = run_command(tmp_path, "predict", "import onnxruntime.no_such_part\n")
    assert done.returncode == 1
    assert "pip install" not in done.stderr


def test_a_reader_that_leaves_is_no_error(tmp_path: Path) -> None:
    line = write_command(tmp_path, "predict", COMMAND + "    while True: click.echo('row ' * 1000)\n")
    with started(line) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline().startswith("row")
        process.stdout.close()
        assert process.stderr.read() == ""
    assert process.returncode == 1


def test_control_c_from_a_terminal(tmp_path: Path) -> None:
    code = COMMAND + "    import time\n    click.echo('ready')\n    time.sleep(60)\n"
    line = write_command(tmp_path, "train", code)
    with started(line) as process:
        assert process.stdout is not None and process.stderr is not None
        assert process.stdout.readline() == "ready\n"
        os.kill(process.pid, signal.SIGINT)
        assert process.stderr.read() == "propetl: interrupted\n"
    assert process.returncode == 130
