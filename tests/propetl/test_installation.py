"""The line that installs an extra works for the installation at hand."""

import json
import shlex
import subprocess
import sys
from importlib.metadata import PackageNotFoundError

import pytest

from propetl import installation
from propetl.errors import MissingExtraError
from propetl.installation import install_line, requirement_of
from tests.device_env import ROOT

REQUIRES = ["click>=8", 'torch>=2.13; extra == "train"', "datasets>=5; sys_platform == 'linux' and extra == 'train'"]


@pytest.fixture
def installed(monkeypatch, tmp_path):
    """The package in site-packages, with what pip noted of where it came from."""
    monkeypatch.setattr(installation.propetl, "__file__", str(tmp_path / "site-packages" / "propetl" / "__init__.py"))

    def note(content):
        class Noted:
            requires = REQUIRES

            def read_text(self, name):
                return content if content is None or isinstance(content, str) else json.dumps(content)

        def distribution(name):
            if content == "nothing" or name != "propetl":
                raise PackageNotFoundError(name)
            return Noted()

        monkeypatch.setattr(installation, "distribution", distribution)

    return note


def test_of_a_checkout(monkeypatch):
    assert shlex.split(requirement_of("train")) == ["--editable", f"{ROOT}[train]"]


@pytest.mark.parametrize(
    ("noted", "line"),
    [
        (None, "propetl[train]"),
        ("nothing", "propetl[train]"),
        ("no JSON", "propetl[train]"),
        ("[]", "propetl[train]"),
        ({"url": "https://a.b/p.whl", "archive_info": {}}, "propetl[train] @ https://a.b/p.whl"),
        (
            {"url": "https://a.b/p.git", "vcs_info": {"vcs": "git", "commit_id": "c0ffee"}},
            "propetl[train] @ git+https://a.b/p.git@c0ffee",
        ),
    ],
)
def test_of_an_index_an_address_or_a_repository(installed, noted, line):
    installed(noted)
    assert shlex.split(requirement_of("train")) == [line]


def test_of_a_wheel_or_folder_as_long_as_it_is_there(installed, tmp_path):
    wheel = tmp_path / "a folder" / "propetl-1-py3-none-any.whl"
    wheel.parent.mkdir()
    wheel.touch()
    installed({"url": wheel.as_uri(), "archive_info": {}})
    assert shlex.split(requirement_of("train")) == [f"{wheel}[train]"]
    wheel.unlink()
    assert shlex.split(requirement_of("train")) == ["torch>=2.13", "datasets>=5"]


def test_pip_is_this_environment_s(monkeypatch, tmp_path):
    bin_folder = tmp_path / "bin"
    monkeypatch.setattr(sys, "executable", str(bin_folder / "python"))
    monkeypatch.setattr(installation.shutil, "which", lambda name: str(bin_folder / name))
    assert install_line("train").startswith("pip install --editable")
    monkeypatch.setattr(installation.shutil, "which", lambda name: f"/elsewhere/{name}")
    assert install_line("train").startswith(f"{bin_folder}/python -m pip install --editable")
    monkeypatch.setattr(installation, "find_spec", lambda name: None)
    assert install_line("train").startswith(f"uv pip install --python {bin_folder}/python --editable")


@pytest.mark.parametrize("extra", ["gpu", "optimum"])
def test_what_this_environment_cannot_have_goes_into_one_of_its_own(extra):
    assert install_line(extra).startswith("in an environment of its own, pip install")


def test_the_line_of_this_installation_is_one_that_pip_takes():
    """Resolved and not installed; nothing is fetched, as all of it is there."""
    line = shlex.split(install_line("cpu"))[:-1]
    command = [sys.executable, "-m", "pip", *line[line.index("install") :]]
    options = ["--dry-run", "--no-deps", "--no-build-isolation", "--quiet"]
    done = subprocess.run([*command, f"{ROOT}[cpu]", *options], capture_output=True, text=True, timeout=300)
    assert done.returncode == 0, done.stderr


def test_an_error_carries_the_line():
    assert str(MissingExtraError("a plot", "matplotlib", "plot")) == (
        f"a plot needs 'matplotlib', which is not installed: {install_line('plot')}"
    )
