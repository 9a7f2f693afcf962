"""Options of every command that runs an artifact: what runs it, and on which device."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from propetl.runtime.engines.providers import PROVIDERS

Command = Callable[..., Any]

_OPTIONS = (
    click.option("--provider", default="cpu", show_default=True, help=f"What runs it: {', '.join(PROVIDERS)}."),
    click.option("--device", type=click.IntRange(min=0), default=0, help="Number of the GPU.  [default: 0]"),
    click.option(
        "--precision", help="Which of several engines a -plan provider runs, such as fp16.  [default: the first]"
    ),
    click.option(
        "--engine-cache",
        type=click.Path(file_okay=False, path_type=Path),
        help="Folder for engines that a provider builds.  [default: propetl/engines in the user's cache folder]",
    ),
)


def provider_options(command: Command) -> Command:
    """Adds ``provider``, ``device``, ``precision`` and ``engine_cache`` to a command."""
    for option in reversed(_OPTIONS):
        command = option(command)
    return command
