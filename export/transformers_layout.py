"""Makes the folder of a folded task one that transformers and optimum load as their own."""

import os
import shutil
from pathlib import Path

from propetl import fields
from propetl.backbone import Backbone
from propetl.errors import BundleError
from propetl.files import json_bytes
from propetl.strict_json import any_length, parse_json
from propetl.task import TaskSpec


def write_config(folder: Path, backbone: Backbone, info: TaskSpec) -> None:
    """Writes ``config.json``; for a task that is answered in text, ``generation_config.json`` beside it."""
    for name, config in info.kind.transformers_files(backbone, info).items():
        (folder / name).write_bytes(json_bytes({key: value for key, value in config.items() if key != "_name_or_path"}))


def write_tokenizer(source: Path, folder: Path) -> None:
    """Copies the files of a bundle's tokenizer, which say its ``max_length``, into ``folder``."""
    folder.mkdir(exist_ok=True)
    for file in source.iterdir():
        (folder / file.name).write_bytes(_checked(file))


def _checked(file: Path) -> bytes:
    """A file of the tokenizer, which other tools read as JSON."""
    content = file.read_bytes()
    if file.name == "tokenizer_config.json":
        try:
            fields.entries(parse_json(content, whole=any_length), "tokenizer")
        except ValueError as error:
            raise BundleError(f"{file}: not valid ({error}); restore the bundle from its source") from error
    return content


def add_file(source: Path, target: Path, standalone: bool) -> None:
    """Puts ``source`` at ``target``: a hard link, which takes no space, or a copy that can be moved alone.

    A file system that knows no hard links gets a copy.
    """
    if not standalone:
        try:
            os.link(source, target)
            return
        except OSError:
            pass
    shutil.copyfile(source, target)
