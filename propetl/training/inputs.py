"""Fingerprints of all that a run learns from: a run that goes on with other inputs leaves a bundle of neither."""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict
from typing import Any

from propetl.backbone import Backbone
from propetl.data.tables import Rows
from propetl.files import sha256_of_bytes
from propetl.task import TaskSpec
from propetl.training.tasks import TaskRows

Inputs = dict[str, Any]
"""Fingerprints as JSON holds them, under ``tasks``, ``data`` and ``backbone``."""

_ANY_ORDER = 2**128
# Says where a configuration was read and by which library, not what the backbone computes.
_NOT_OF_THE_BACKBONE = {"_name_or_path", "transformers_version", "architectures", "dtype", "torch_dtype"}


def definitions_of(specs: Mapping[str, TaskSpec]) -> dict[str, Any]:
    """The definition of each task, in their order, on which batches and initial values depend."""
    definitions: dict[str, Any] = json.loads(json.dumps({name: asdict(spec) for name, spec in specs.items()}))
    return definitions


def fingerprints_of_rows(rows: Mapping[str, TaskRows]) -> dict[str, Any]:
    """Fingerprints of each task's rows by split, and how its labels were read."""
    return {
        task: {
            "splits": {"train": _of_rows(both.train), "dev": _of_rows(both.dev)},
            "label_values": dict(both.label_values),
        }
        for task, both in rows.items()
    }


def _of_rows(rows: Rows) -> dict[str, Any]:
    """Texts and labels in their order, and both in any: so that a refusal can say what has changed."""
    texts, labels, unordered = hashlib.sha256(), hashlib.sha256(), 0
    for text, label in zip(rows.texts, rows.labels.tolist(), strict=True):
        row = (json.dumps(text).encode(), json.dumps(label).encode())
        for digest, part in zip((texts, labels), row, strict=True):
            digest.update(part + b"\n")
        unordered += int.from_bytes(hashlib.sha256(b"\n".join(row)).digest()[:16])
    return {
        "rows": len(rows),
        "texts": texts.hexdigest(),
        "labels": labels.hexdigest(),
        "in_any_order": f"{unordered % _ANY_ORDER:032x}",
    }


def fingerprints_of_backbone(backbone: Backbone) -> dict[str, str]:
    """Of its weights, of what it computes with them, and of its tokenizer."""
    configuration = {
        key: value for key, value in backbone.model.config.to_diff_dict().items() if key not in _NOT_OF_THE_BACKBONE
    }
    files = {name: sha256_of_bytes(content) for name, content in sorted(backbone.tokenizer_files.items())}
    return {
        "weights": backbone.info.fingerprint,
        "configuration": _of_json(configuration),
        "tokenizer": _of_json(files),
    }


def _of_json(value: Any) -> str:
    return sha256_of_bytes(json.dumps(value, sort_keys=True, default=str).encode())
