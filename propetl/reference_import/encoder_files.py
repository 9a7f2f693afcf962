"""The folder in which the reference saves one task of an encoder."""

import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propetl.errors import BundleError
from propetl.files import read_json
from propetl.reference_import.checkpoint import Checkpoint, read_checkpoint

CONFIG_FILE = "adapter_config.json"
WEIGHTS_FILE = "pytorch_adapter.bin"
MASKS_FILE = "adapter_mask.bin"
HEAD_FILE = "pytorch_model_head.bin"
HEAD_CONFIG_FILE = "head_config.json"

_LAYERS = ".encoder.layer."


@dataclass(frozen=True, eq=False)
class EncoderFiles:
    """What stands in the folder.

    Attributes:
        folder: where.
        name: of the adapter, which is the task's.
        model_name: the backbone's on the hub, if the file says it.
        config: the method's settings.
        weights: tensors of the method.
        masks: tensors of the mask file; None where there is no such file, or nothing in it.
        head_config: the head's settings.
        head: tensors of the head.
    """

    folder: Path
    name: str
    model_name: str | None
    config: Mapping[str, Any]
    weights: Checkpoint
    masks: Checkpoint | None
    head_config: Mapping[str, Any]
    head: Checkpoint

    @property
    def layers(self) -> str:
        """Path of the list of layers, such as ``roberta.encoder.layer``."""
        for name in self.weights.tensors:
            if _LAYERS in name:
                return name.partition(_LAYERS)[0] + _LAYERS.removesuffix(".")
        raise BundleError(f"{self.weights.source}: no tensor of a layer ({_LAYERS}) is in it")

    def unused(self) -> list[str]:
        """Tensors that nobody took, with their files."""
        files = [self.weights, self.head, *([self.masks] if self.masks else [])]
        return [f"{one.source.name}: {name}" for one in files for name in one.unused()]

    def setting(self, key: str, default: Any = None) -> Any:
        """A setting of the method."""
        return self.config.get(key, default)


def read_encoder_files(path: Path) -> EncoderFiles:
    """Reads the folder ``path``, or the one folder in it that holds an adapter, as the reference's trainer leaves it.

    Raises:
        BundleError: a file is missing or cannot be used, or there are several adapters.
    """
    folder = _folder_of(path)
    described = _json(folder / CONFIG_FILE)
    head = _json(folder / HEAD_CONFIG_FILE)
    masks = read_checkpoint(folder / MASKS_FILE) if (folder / MASKS_FILE).exists() else None
    return EncoderFiles(
        folder=folder,
        name=str(described.get("name")),
        model_name=described.get("model_name"),
        config=_mapping(described, "config", folder / CONFIG_FILE),
        weights=read_checkpoint(folder / WEIGHTS_FILE),
        masks=masks if masks and masks.tensors else None,
        head_config=_mapping(head, "config", folder / HEAD_CONFIG_FILE),
        head=read_checkpoint(folder / HEAD_FILE),
    )


def _folder_of(path: Path) -> Path:
    if (path / CONFIG_FILE).is_file():
        return path
    found = sorted(config.parent for config in path.glob(f"*/{CONFIG_FILE}"))
    if len(found) == 1:
        return found[0]
    if found:
        names = ", ".join(folder.name for folder in found)
        raise BundleError(f"{path}: it holds several adapters ({names}); import each, as each has its own prototype")
    raise BundleError(f"{path}: no checkpoint of the reference code is there ({CONFIG_FILE} is missing)")


def _json(path: Path) -> dict[str, Any]:
    value = read_json(path, "checkpoint of the reference code", BundleError)
    if not isinstance(value, dict):
        raise BundleError(f"{path}: expected an object, found {json.dumps(value)[:60]}")
    return value


def _mapping(value: Mapping[str, Any], key: str, path: Path) -> dict[str, Any]:
    found = value.get(key)
    if not isinstance(found, dict):
        raise BundleError(f"{path}: {key!r} is {json.dumps(found)[:60]}, expected the settings as an object")
    return found


def refuse_unless(files: EncoderFiles, expected: Mapping[str, Any]) -> None:
    """Refuses settings under which the reference computes something that this project does not.

    Raises:
        BundleError: naming the setting; one that the file leaves out counts as expected.
    """
    for key, value in expected.items():
        found = files.setting(key, value)
        if found != value and not (not found and not value):  # null, [] and false all mean that it is off
            raise BundleError(
                f"{files.folder / CONFIG_FILE}: {key} is {json.dumps(found)}, and only {json.dumps(value)} can be "
                "imported: another value changes what the layers compute"
            )
