"""``--json FILE``, the same for every command: a report for machines, in a file or instead of the tables."""

import os
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from propetl.errors import ConfigurationError
from propetl.files import json_bytes
from propetl.output import own_descriptor, write_output

STANDARD_OUTPUT = "-"


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option; the command gets it as ``json_file``, None where it was not given."""
    text = "Write the report as JSON to this file; - for standard output, then without tables."
    return click.option("--json", "json_file", metavar="FILE", help=text, callback=_standard_output_once)(command)


def _standard_output_once(context: click.Context, option: click.Parameter, value: str | None) -> str | None:
    """``/dev/stdout`` is standard output, too: tables before the report would leave no JSON there."""
    return STANDARD_OUTPUT if value and own_descriptor(Path(value)) == 1 else value


def check_output_file(flag: str, file: Path | str | None, *inputs: Path | None) -> None:
    """Refuses a file that could not be written, before minutes of work end there, and one that is read.

    Args:
        flag: that names the file.
        file: the file.
        inputs: folders that the command reads, none of whose files may be written over.

    Raises:
        ConfigurationError: its folder is not there, it is a folder itself, or a file of ``inputs``.
    """
    if file is None or file == STANDARD_OUTPUT:
        return
    path = Path(file)
    if path.is_dir():
        raise ConfigurationError(f"{flag} {path}: a folder is there; give the name of a file")
    real = Path(os.path.realpath(path)) if path.is_symlink() and not path.exists() else path
    if not real.parent.is_dir():
        raise ConfigurationError(f"{flag} {path}: there is no folder {real.parent}; make it first")
    for folder in inputs:
        if folder is not None and path.is_file() and path.resolve().is_relative_to(folder.resolve()):
            raise ConfigurationError(f"{flag} {path}: a file of {folder} is there; choose another path")


def write_json(value: Any, json_file: str | None, show: Callable[[], None]) -> None:
    """Writes ``value`` where ``--json`` says, and has ``show`` print tables before, unless both are for the screen.

    In this order, as a disk that is full is no reason to lose what was measured.
    """
    if json_file == STANDARD_OUTPUT:
        sys.stdout.buffer.write(json_bytes(value))
        sys.stdout.flush()  # an output that is full is known before anything else is said
        return
    show()
    if json_file is not None:
        write_output(Path(json_file), json_bytes(value))
