"""The packages of the distribution: every folder with modules, so that a further one is listed nowhere.

Everything else stands in pyproject.toml. setuptools cannot find these packages itself, as three of them stand at the
top of the repository under other names.
"""

import os
from collections.abc import Iterator
from pathlib import Path

from setuptools import setup

ROOTS = {"propetl": "propetl", "cli": "propetl.cli", "export": "propetl.export", "runtime": "propetl.runtime"}


def packages() -> Iterator[str]:
    """Dotted names; links inside ``propetl``, which a checkout has for editors and tests, are not followed."""
    for root, package in ROOTS.items():
        for folder, _, files in os.walk(root):
            if "__init__.py" in files:
                yield ".".join((package, *Path(folder).relative_to(root).parts))


setup(packages=sorted(packages()))
