"""Golden inputs and outputs: real rows and PyTorch's logits, so that a device can test itself without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import check_format
from propetl.bundle.tensors import Arrays, read_tensors, tensor_bytes
from propetl.errors import ArtifactError, BundleError

FORMAT = "propetl-golden"
VERSION = 1
LOGITS = "logits"


@dataclass(frozen=True)
class Golden:
    """Reference of one task.

    Attributes:
        feeds: token inputs by name, int64 ``[rows, sequence]``.
        logits: what PyTorch gives for them, float32 ``[rows, outputs]``.
    """

    feeds: dict[str, NDArray[np.int64]]
    logits: NDArray[np.float32]


def golden_bytes(goldens: dict[str, Golden], description: dict[str, Any] | None = None) -> bytes:
    """The file ``golden.safetensors``: tensors ``<task>/<input>``, as narrow as they fit, and ``<task>/logits``."""
    tensors: Arrays = {}
    for task, golden in goldens.items():
        tensors |= {f"{task}/{name}": _narrow(tensor) for name, tensor in golden.feeds.items()}
        tensors[f"{task}/{LOGITS}"] = golden.logits.astype(np.float32)
    return tensor_bytes(tensors, {"format": FORMAT, "version": VERSION} | (description or {}))


def read_golden(path: Path, task: str, inputs: tuple[str, ...]) -> Golden:
    """Golden rows of ``task``, whose model takes ``inputs``.

    Raises:
        ArtifactError: the file is damaged, or has no rows of this task.
    """
    try:
        tensors, described = read_tensors(path)
    except BundleError as error:
        raise ArtifactError(str(error)) from error
    check_format(described, FORMAT, VERSION, str(path), ArtifactError)
    try:
        feeds = {name: tensors[f"{task}/{name}"].astype(np.int64) for name in inputs}
        golden = Golden(feeds, tensors[f"{task}/{LOGITS}"])
    except KeyError as error:
        raise ArtifactError(f"{path}: has no tensor {error}; export it again") from error
    _check(golden, task, path)
    return golden


def _narrow(tensor: NDArray[np.int64]) -> NDArray[Any]:
    """The narrowest type that holds every number: with a thousand tasks, eight bytes a token would be megabytes."""
    return tensor.astype(np.min_scalar_type(int(tensor.max(initial=0))))


def _check(golden: Golden, task: str, path: Path) -> None:
    shapes = {tensor.shape for tensor in golden.feeds.values()}
    rows = golden.logits.shape[0] if golden.logits.ndim == 2 else 0
    if len(shapes) != 1 or rows == 0 or next(iter(shapes))[:1] != (rows,):
        found = {name: tensor.shape for name, tensor in golden.feeds.items()} | {LOGITS: golden.logits.shape}
        raise ArtifactError(f"{path}: golden tensors of task {task} do not fit together: {found}")
