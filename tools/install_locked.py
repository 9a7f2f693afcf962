"""Installs what extras ask for into the environment that runs this; every file is held against constraints.txt.

    .venv/bin/python tools/install_locked.py cpu,train,export,plot [--bare NAME …]
    .venv/bin/python -m pip install --no-deps --no-build-isolation --editable .

The second line installs the project itself: pip takes no folder where hashes are required. Source distributions are
built with what the first line installed, as pip would fetch their build requirements without looking at hashes.
"""

import argparse
import json
import re
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
# pip first: older ones take hashes from requirements only and not from constraints. The others build.
FIRST = ("pip", "packaging", "setuptools", "setuptools-scm", "vcs-versioning", "wheel")

IN_BUILDS = ("torch",)


def main() -> None:
    """Three calls of pip: what builds and installs, what the extras ask for, and packages by themselves."""
    asked = _arguments()
    pins = _pins(CONSTRAINTS.read_text())
    with tempfile.TemporaryDirectory() as folder:
        first = Path(folder, "first.txt")
        first.write_text("".join(pins[name] for name in FIRST))
        _pip("--no-deps", "--requirement", str(first))
    locked = ("--no-build-isolation", "--constraint", str(CONSTRAINTS))
    _pip(*locked, *(_of_build(item, pins) for item in _requirements(asked.extras.split(","))))
    if asked.bare:
        _pip(*locked, "--no-deps", *asked.bare)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser()
    parser.add_argument("extras", help="names of pyproject.toml, with commas between")
    parser.add_argument("--bare", nargs="*", default=[], help="packages to install without their dependencies")
    return parser.parse_args()


def _pins(text: str) -> dict[str, str]:
    """By name, the lines of each pin with its hashes."""
    return {found[1]: found[0] for found in re.finditer(r"^([a-z0-9-]+)==(?:.*\\\n)+.*\n", text, re.MULTILINE)}


def _requirements(extras: list[str]) -> list[str]:
    """Requirements of the project and its ``extras``."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    known = project["optional-dependencies"]
    if unknown := [name for name in extras if name not in known]:
        sys.exit(f"install_locked.py: {unknown[0]!r} is no extra; there are {', '.join(known)}")
    return [*project["dependencies"], *(line for name in extras for line in known[name])]


def _of_build(requirement: str, pins: dict[str, str]) -> str:
    """``requirement``, narrowed to the build that pip would take: for torch, the CPU's where it was pointed at one.

    Where hashes are required, pip prefers files whose hash the index states, which an index for the CPU or a folder of
    wheels may not do: it would pass over the small build and bring gigabytes of CUDA.
    """
    name = re.split(r"[^\w-]", requirement, maxsplit=1)[0]
    if name not in IN_BUILDS:
        return requirement
    pin = pins[name].split()[0]
    look = ["--dry-run", "--quiet", "--ignore-installed", "--no-deps", "--report", "-", pin]
    done = subprocess.run([sys.executable, "-m", "pip", "install", *look], stdout=subprocess.PIPE, check=True)
    return f"{name}=={json.loads(done.stdout)['install'][0]['metadata']['version']}"


def _pip(*arguments: str) -> None:
    command = [sys.executable, "-m", "pip", "install", "--require-hashes", *arguments]
    print("+", *command, flush=True)
    code = subprocess.run(command).returncode
    if code:
        sys.exit(code)


if __name__ == "__main__":
    main()
