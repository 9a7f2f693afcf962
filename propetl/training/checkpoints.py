"""Checkpoints that are complete or ignored: a marker, written last, says so."""

import re
import shutil
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.files import json_bytes
from propetl.staging import staged_folder
from propetl.strict_json import parse_json

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
        """The Trainer's state at that step: log history, best step and so on.

        Raises:
            ConfigurationError: the file is damaged.
        """
        source = self.path / STATE
        try:
            return _checked(parse_json(source.read_bytes(), not_finite=True))
        except ValueError as error:
            raise ConfigurationError(f"{source}: damaged ({error}); train again with --overwrite") from error


def _checked(value: Any) -> dict[str, Any]:
    """The keys that are used, each of its kind; the Trainer reads the others."""
    state = fields.entries(value, "state")
    fields.whole(fields.need(state, "global_step"), "global_step")
    fields.optional(fields.whole, fields.need(state, "best_global_step"), "best_global_step")
    for entry in fields.items(fields.need(state, "log_history"), "log_history"):
        fields.whole(fields.need(fields.entries(entry, "log_history"), "step"), "step")
    return state


def write_checkpoint(folder: Path, step: int, files: Iterable[tuple[str, bytes]]) -> None:
    """Writes ``checkpoint-STEP`` in ``folder`` from names and contents; it replaces one of the same step.

    It appears whole, on the disk, or not at all. Files are written from memory: when the disk is full, torch and
    safetensors raise errors that do not say so.
    """
    with staged_folder(folder / f"checkpoint-{step}", overwrite=True, marker=MARKER) as staging:
        for name, content in files:
            (staging / name).write_bytes(content)
        mark_complete(staging)


def mark_complete(folder: Path) -> None:
    """Writes the marker, which lists the files of ``folder`` with their sizes."""
    sizes = {path.name: path.stat().st_size for path in sorted(folder.iterdir()) if path.name != MARKER}
    (folder / MARKER).write_bytes(json_bytes({"files": sizes}))


def complete_checkpoints(folder: Path) -> list[Checkpoint]:
    """The complete checkpoints in ``folder``, oldest first; others are passed over."""
    return sorted(found for path in _folders(folder) if (found := _complete(path)))


def remove_incomplete(folder: Path) -> None:
    """Removes what a kill while saving, or while removing, has left."""
    for path in _folders(folder):
        if _complete(path) is None:
            _remove(path)
    for path in folder.glob(".checkpoint-*"):
        shutil.rmtree(path)


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
        marker = fields.record(parse_json((path / MARKER).read_bytes()), MARKER, ("files",))
        sizes = fields.each(partial(fields.whole, largest=fields.MOST_BYTES), marker["files"], "files")
        whole = all((path / name).stat().st_size == size for name, size in sizes.items())
    except (OSError, ValueError):
        return None
    return Checkpoint(int(match[1]), path) if match and whole else None
