"""``--allow-pickle``, the same for every command that loads a backbone."""

from collections.abc import Callable
from typing import Any

import click


def pickle_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option; the command gets it as ``allow_pickle``, None where it was not given."""
    text = "Where the backbone has no safetensors, read its pytorch_model.bin: tensors alone."
    return click.option("--allow-pickle", is_flag=True, default=None, help=text)(command)
