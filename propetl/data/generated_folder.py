"""The folder that generated tasks are written to, with a note by which it is known again."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.files import json_bytes, make_folder, sha256_of_bytes, write_atomically
from propetl.strict_json import parse_json

NOTE = "generated.json"
FORMAT = "propetl-generated-data"


def write_folder(folder: Path, files: Mapping[str, str], seed: int) -> tuple[Path, ...]:
    """Write ``files`` (relative path -> text) and the note; see ``write_generated``.

    The note is written first: a run that is killed half way leaves a folder that the next may write over.

    Raises:
        ConfigurationError: the folder is somebody else's, or cannot be written.
    """
    try:
        written = _files_noted(folder)
        make_folder(folder)
        contents = {name: text.encode() for name, text in files.items()}
        records = {name: {"seed": seed, "sha256": sha256_of_bytes(data)} for name, data in contents.items()}
        note = {"format": FORMAT, "version": 1, "files": {**written, **records}}
        write_atomically(folder / NOTE, json_bytes(note))
        for name, data in contents.items():
            make_folder((folder / name).parent)
            write_atomically(folder / name, data)
    except OSError as error:
        raise ConfigurationError(
            f"{folder} cannot be written: {error.strerror or error}: give a folder that can"
        ) from error
    return tuple(folder / name for name in files)


def _files_noted(folder: Path) -> dict[str, Any]:
    """What the note in the folder lists; nothing where the folder is new or empty."""
    if not folder.exists() or (folder.is_dir() and not any(folder.iterdir())):
        return {}
    if not folder.is_dir():
        raise ConfigurationError(f"{folder} is a file: give a folder")
    try:
        note = fields.entries(parse_json((folder / NOTE).read_bytes()), NOTE)
        if note.get("format") == FORMAT:
            return fields.entries(fields.need(note, "files"), "files")
    except (FileNotFoundError, ValueError):
        pass
    raise ConfigurationError(
        f"{folder} is not empty and was not written by propetl data (no {NOTE} of its): give a new folder"
    )
