"""Makes the folder of a folded task one that transformers and optimum load as their own."""

import os
import shutil
from pathlib import Path

from propetl.backbone import Backbone
from propetl.bundle.format import TaskInfo
from propetl.files import json_bytes

_PROBLEMS = {"classification": "single_label_classification", "regression": "regression"}


def write_config(folder: Path, backbone: Backbone, info: TaskInfo) -> None:
    """Writes ``config.json`` of a sequence classifier with this task's labels."""
    names = info.labels or ("LABEL_0",)
    config = backbone.model.config.to_dict() | {
        "architectures": [type(backbone.model.base_model).__name__.removesuffix("Model") + "ForSequenceClassification"],
        "problem_type": _PROBLEMS[info.problem],
        "id2label": {str(index): name for index, name in enumerate(names)},
        "label2id": {name: index for index, name in enumerate(names)},
        "num_labels": len(names),
    }
    config.pop("_name_or_path", None)
    (folder / "config.json").write_bytes(json_bytes(config))


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
