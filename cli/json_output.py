"""``--json FILE``, the same for every command: a report for machines, in a file or instead of the tables."""

import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from propetl.errors import ConfigurationError
from propetl.files import json_bytes, write_atomically

STANDARD_OUTPUT = "-"


def json_option(command: Callable[..., Any]) -> Callable[..., Any]:
    """Adds the option; the command gets it as ``json_file``, None where it was not given."""
    text = "Write the report as JSON to this file; - for standard output, then without tables."
    return click.option("--json", "json_file", metavar="FILE", help=text)(command)


def check_output_file(flag: str, file: Path | str | None) -> None:
    """Refuses a file that could not be written, before minutes of work end there.

    Raises:
        ConfigurationError: its folder is not there, or it is a folder itself.
    """
    if file is None or file == STANDARD_OUTPUT:
        return
    path = Path(file)
    if not path.parent.is_dir():
        raise ConfigurationError(f"{flag} {path}: there is no folder {path.parent}; make it first")
    if path.is_dir():
        raise ConfigurationError(f"{flag} {path}: a folder is there; give the name of a file")


def write_json(value: Any, json_file: str | None) -> bool:
    """Writes ``value`` where ``--json`` says; returns whether tables are still to be printed."""
    if json_file == STANDARD_OUTPUT:
        sys.stdout.buffer.write(json_bytes(value))
        return False
    if json_file is not None:
        write_atomically(Path(json_file), json_bytes(value))
    return True
