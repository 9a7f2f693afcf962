"""How ProPETL came to this machine, and the line that adds an extra to it: no index has the package."""

import re
import shlex
import shutil
import sys
from importlib.metadata import Distribution, PackageNotFoundError, distribution
from importlib.util import find_spec
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit
from urllib.request import url2pathname

import propetl
from propetl.strict_json import parse_json

_NAME = "propetl"
_ELSEWHERE = {"gpu": "onnxruntime", "optimum": "transformers"}
"""Extras that bring another distribution of a module, or another version of it, than is there."""


def install_line(extra: str) -> str:
    """The command that installs ``extra``; an environment of its own is named where this one cannot have it."""
    if extra in _ELSEWHERE and _distribution(_ELSEWHERE[extra]) is not None:
        return f"in an environment of its own, pip install {requirement_of(extra)}"
    return f"{_installer()} {requirement_of(extra)}"


def requirement_of(extra: str) -> str:
    """ProPETL with ``extra`` as pip takes it: the checkout, folder, repository or wheel that this one came from.

    Where that is gone, all that the extra asks for.
    """
    root = Path(propetl.__file__).resolve().parents[1]
    if (root / "pyproject.toml").is_file():
        return f"--editable {shlex.quote(f'{root}[{extra}]')}"
    here = _distribution(_NAME)
    origin = _origin(here) if here is not None else {}
    url = origin.get("url", "")
    if "vcs_info" in origin:
        url = f"{origin['vcs_info']['vcs']}+{url}@{origin['vcs_info']['commit_id']}"
    elif url.startswith("file:"):
        path = Path(url2pathname(urlsplit(url).path))
        return shlex.quote(f"{path}[{extra}]") if path.exists() else _parts(here, extra)
    return shlex.quote(f"{_NAME}[{extra}]" + (f" @ {url}" if url else ""))


def _distribution(name: str) -> Distribution | None:
    try:
        return distribution(name)
    except PackageNotFoundError:
        return None


def _origin(here: Distribution) -> dict[str, Any]:
    """pip's note about an installation that is not from an index (PEP 610); empty where there is none."""
    try:
        found = parse_json(here.read_text("direct_url.json") or "{}")
    except ValueError:
        return {}
    return found if isinstance(found, dict) and isinstance(found.get("url"), str) else {}


def _parts(here: Distribution | None, extra: str) -> str:
    asked = [line.partition(";") for line in (here.requires if here is not None else None) or ()]
    wanted = re.compile(rf"extra == ['\"]{re.escape(extra)}['\"]")
    return " ".join(shlex.quote(line.strip()) for line, _, marker in asked if wanted.search(marker))


def _installer() -> str:
    """The pip of this environment, by its path where the shell would find another one; uv where there is none."""
    python = shlex.quote(sys.executable)
    if find_spec("pip") is None and shutil.which("uv"):
        return f"uv pip install --python {python}"
    found = shutil.which("pip")
    same = found is not None and Path(found).parent == Path(sys.executable).parent
    return "pip install" if same else f"{python} -m pip install"
