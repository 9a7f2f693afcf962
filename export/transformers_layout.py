"""Makes the folder of a folded task one that transformers and optimum load as their own."""

import os
import shutil
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.backbone import Backbone
from propetl.bundle.format import TaskInfo
from propetl.bundle.text import TextInfo
from propetl.errors import BundleError
from propetl.files import json_bytes
from propetl.generation import only_tokens
from propetl.strict_json import any_length, parse_json

_PROBLEMS = {"classification": "single_label_classification", "regression": "regression"}


def write_config(folder: Path, backbone: Backbone, info: TaskInfo) -> None:
    """Writes ``config.json``; for a task that is answered in text, ``generation_config.json`` beside it."""
    if info.text is None:
        _write(folder, "config.json", _classifier_config(backbone, info))
        return
    _write(folder, "config.json", backbone.model.config.to_dict())
    _write(folder, "generation_config.json", _generation_config(backbone, info.text))


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


def _write(folder: Path, name: str, config: dict[str, Any]) -> None:
    (folder / name).write_bytes(json_bytes({key: value for key, value in config.items() if key != "_name_or_path"}))


def _generation_config(backbone: Backbone, text: TextInfo) -> dict[str, Any]:
    """What the task says, and the backbone's special tokens: as the runtime generates."""
    tokens = only_tokens(backbone.model.generation_config, backbone.pad_token_id).to_diff_dict()
    return tokens | {
        "max_new_tokens": text.max_target_length,
        "num_beams": text.num_beams,
        **({"length_penalty": text.length_penalty} if text.num_beams > 1 else {}),
    }


def _classifier_config(backbone: Backbone, info: TaskInfo) -> dict[str, Any]:
    """Of a sequence classifier, or of a token classifier, with this task's labels."""
    names = info.labels or ("LABEL_0",)
    of = "Token" if info.kind.answers_words else "Sequence"
    return backbone.model.config.to_dict() | {
        "architectures": [f"{type(backbone.model.base_model).__name__.removesuffix('Model')}For{of}Classification"],
        **({} if info.kind.answers_words else {"problem_type": _PROBLEMS[info.problem]}),
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "num_labels": len(names),
    }


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
