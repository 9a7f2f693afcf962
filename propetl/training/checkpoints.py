"""Checkpoints that are complete or ignored: a marker, written last, says so."""

import json
import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from propetl.errors import ConfigurationError
from propetl.files import flush, json_bytes, write_atomically

MARKER = "complete.json"
WEIGHTS = "model.safetensors"
STATE = "trainer_state.json"

_NAME = re.compile(r"checkpoint-(\d+)")


@dataclass(frozen=True, order=True)
class Checkpoint:
    """A complete checkpoint.

    Attributes:
        step: optimizer steps done.
        path: its folder.
    """

    step: int
    path: Path

    def state(self) -> dict[str, Any]:
        """What the Trainer knew at that step: log history, best step and so on."""
        state: dict[str, Any] = json.loads((self.path / STATE).read_text("utf-8"))
        return state


def mark_complete(folder: Path) -> None:
    """Flushes every file of ``folder`` to disk, then writes the marker that lists them with their sizes."""
    files = sorted(path for path in folder.iterdir() if path.is_file() and path.name != MARKER)
    for path in files:
        flush(path)
    flush(folder)
    flush(folder.parent)
    write_atomically(folder / MARKER, json_bytes({"files": {path.name: path.stat().st_size for path in files}}))


def complete_checkpoints(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints in ``folder``, oldest first; others are passed over."""
    return sorted(found for path in _folders(folder) if (found := _complete(path)))


def remove_incomplete(folder: Path) -> None:
    """Removes what a kill while saving, or while removing, has left."""
    for path in _folders(folder):
        if _complete(path) is None:
            _remove(path)


def rotate(folder: Path, keep: Iterable[int]) -> None:
    """Removes complete checkpoints but those at the steps ``keep``; call it once the newest one is marked."""
    kept = set(keep)
    for checkpoint in complete_checkpoints(folder):
        if checkpoint.step not in kept:
            _remove(checkpoint.path)


def at_step(folder: Path, step: int) -> Checkpoint:
    """The complete checkpoint at ``step``.

    Raises:
        ConfigurationError: there is none, as when someone has removed it.
    """
    for checkpoint in complete_checkpoints(folder):
        if checkpoint.step == step:
            return checkpoint
    raise ConfigurationError(f"{folder}: checkpoint-{step} is missing or damaged; train again with --overwrite")


def _remove(path: Path) -> None:
    """The marker goes first, so that a kill in between leaves nothing that looks complete."""
    (path / MARKER).unlink(missing_ok=True)
    shutil.rmtree(path)


def _folders(folder: Path) -> list[Path]:
    if not folder.is_dir():
        return []
    return [path for path in sorted(folder.iterdir()) if path.is_dir() and _NAME.fullmatch(path.name)]


def _complete(path: Path) -> Checkpoint | None:
    match = _NAME.fullmatch(path.name)
    try:
        sizes = json.loads((path / MARKER).read_text("utf-8"))["files"]
        whole = all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError, KeyError, TypeError):
        return None
    return Checkpoint(int(match[1]), path) if match and whole else None
