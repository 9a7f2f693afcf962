"""Golden inputs and outputs: real rows and PyTorch's logits, so that a device can test itself without it."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import check_format
from propetl.bundle.tensors import Arrays, read_tensors, tensor_bytes
from propetl.errors import ArtifactError, BundleError
from propetl.fields import MOST

FORMAT = "propetl-golden"
VERSION = 1
LOGITS, TOKENS = "logits", "tokens"

MOST_TOKENS = 24
"""Enough to show that the cache grows and beams change places as they should."""


@dataclass(frozen=True)
class Golden:
    """Reference of one task.

    Attributes:
        feeds: token inputs by name, int64 ``[rows, sequence]``.
        logits: what PyTorch gives for them, float32 ``[rows, outputs]``; of a task that tags, at every token,
            ``[rows, sequence, outputs]``; of a task that is answered in text, those of the first token
            ``[rows, vocabulary]``.
        tokens: what PyTorch generates, at most :data:`MOST_TOKENS`, int64 ``[rows, longest]``; None with a head.
    """

    feeds: dict[str, NDArray[np.int64]]
    logits: NDArray[np.float32]
    tokens: NDArray[np.int64] | None = None


def golden_bytes(goldens: dict[str, Golden], description: dict[str, Any] | None = None) -> bytes:
    """The file ``golden.safetensors``: ``<task>/<input>`` and for text ``<task>/tokens``, narrow; ``<task>/logits``."""
    tensors: Arrays = {}
    for task, golden in goldens.items():
        tensors |= {f"{task}/{name}": _narrow(tensor) for name, tensor in golden.feeds.items()}
        tensors[f"{task}/{LOGITS}"] = golden.logits.astype(np.float32)
        if golden.tokens is not None:
            tensors[f"{task}/{TOKENS}"] = _narrow(golden.tokens)
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
    if missing := [name for name in (*inputs, LOGITS) if f"{task}/{name}" not in tensors]:
        raise ArtifactError(f"{path}: has no tensor '{task}/{missing[0]}'; export it again")
    feeds = {name: _wide(tensors[f"{task}/{name}"], name, task, path) for name in inputs}
    tokens = tensors.get(f"{task}/{TOKENS}")
    golden = Golden(
        feeds, tensors[f"{task}/{LOGITS}"], None if tokens is None else _wide(tokens, TOKENS, task, path)
    )
    _check(golden, task, path)
    return golden


def _wide(tensor: NDArray[Any], name: str, task: str, path: Path) -> NDArray[np.int64]:
    """Inverse of :func:`_narrow`."""
    if tensor.dtype.kind not in "iu" or tensor.max(initial=0) > MOST or tensor.min(initial=0) < 0:
        raise ArtifactError(f"{path}: golden {name} of task {task} are no token ids; export it again")
    return tensor.astype(np.int64)


def _narrow(tensor: NDArray[np.int64]) -> NDArray[Any]:
    """The narrowest type that holds every number: with a thousand tasks, eight bytes a token would be megabytes."""
    return tensor.astype(np.min_scalar_type(int(tensor.max(initial=0))))


def _check(golden: Golden, task: str, path: Path) -> None:
    if golden.logits.dtype != np.float32 or not np.isfinite(golden.logits).all():
        raise ArtifactError(f"{path}: golden logits of task {task} are no finite float32 numbers; export it again")
    shapes = {tensor.shape for tensor in golden.feeds.values()}
    rows = golden.logits.shape[0] if golden.logits.ndim in (2, 3) else 0
    tokens = golden.tokens
    if tokens is not None and (tokens.ndim != 2 or len(tokens) != rows):
        raise ArtifactError(f"{path}: golden tokens of task {task} are {list(tokens.shape)}, of {rows} rows")
    if len(shapes) != 1 or rows == 0 or next(iter(shapes))[: golden.logits.ndim - 1] != golden.logits.shape[:-1]:
        found = {name: tensor.shape for name, tensor in golden.feeds.items()} | {LOGITS: golden.logits.shape}
        raise ArtifactError(f"{path}: golden tensors of task {task} do not fit together: {found}")
