"""The run folder: what stands in it, and whether a run may start, go on or has ended."""

import fcntl
import shutil
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import IO, Any

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.files import json_bytes, make_folder, read_json, write_atomically
from propetl.training.checkpoints import Checkpoint, complete_checkpoints, remove_incomplete
from propetl.training.config import TrainConfig
from propetl.training.inputs import Inputs
from propetl.training.same_run import CONFIG, INPUTS, STEPS, refuse_other_run

REPORT = "train.json"
LOG = "log.jsonl"
LOCK = ".lock"

_BEFORE_THE_RUN = {LOCK, INPUTS}
"""Stand in a folder whose run was killed before it had begun."""


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps everything.

    train-config.json   the configuration, every default filled in
    inputs.json         fingerprints of what it learns from: tasks, rows, backbone
    checkpoints/        the newest and the best checkpoint
    log.jsonl           one line per log entry
    tensorboard/        the same for TensorBoard
    bundle/             what the run leaves
    train.json          scores, storage and conditions; written last
    """

    path: Path

    @property
    def checkpoints(self) -> Path:
        """Folder of the checkpoints."""
        return self.path / "checkpoints"

    @property
    def bundle(self) -> Path:
        """Folder of the bundle."""
        return self.path / "bundle"

    @property
    def log(self) -> Path:
        """The JSONL log."""
        return self.path / LOG

    @property
    def tensorboard(self) -> Path:
        """Folder of TensorBoard's files."""
        return self.path / "tensorboard"

    def report(self) -> dict[str, Any] | None:
        """What ``train.json`` holds; None while the run has not ended.

        Raises:
            ConfigurationError: it is damaged.
        """
        source = self.path / REPORT
        if not source.exists():
            return None
        try:
            report = fields.entries(read_json(source, "run", ConfigurationError), "report")
            fields.each(partial(fields.each, fields.number), fields.need(report, "scores"), "scores")
        except ValueError as error:
            raise ConfigurationError(f"{source} is damaged ({error}); remove it and go on with --resume") from error
        return report

    def newest_checkpoint(self) -> Checkpoint | None:
        """The newest complete checkpoint; None before the first."""
        complete = complete_checkpoints(self.checkpoints)
        return complete[-1] if complete else None

    def finish(self, report: dict[str, Any]) -> None:
        """Writes ``train.json``, which says that the run has ended."""
        write_atomically(self.path / REPORT, json_bytes(report))

    def lock(self) -> IO[str]:
        """Makes the folder and keeps a second run out while the returned file is open; a kill opens it again.

        Raises:
            ConfigurationError: another run is in it.
        """
        make_folder(self.path)
        stream = (self.path / LOCK).open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            raise ConfigurationError(
                f"{self.path}: another run is training in this folder; wait for it or stop it"
            ) from error
        return stream

    def holds_run(self) -> bool:
        """Whether a run has begun in it."""
        return (self.path / CONFIG).is_file()


def check(config: TrainConfig, identity: Inputs, *, resume: bool, overwrite: bool) -> RunFolder:
    """The run folder of ``config``, if the run may use it; nothing is written.

    Args:
        config: of the run.
        identity: of its inputs, what is known before any row is read.
        resume: go on with a run that is there.
        overwrite: replace it.

    Raises:
        ConfigurationError: the folder is taken, or was made with another configuration.
    """
    folder = RunFolder(config.output)
    path = folder.path
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigurationError(f"output: {path} is a file or a link; choose another path")
    if path.is_dir() and any(path.iterdir()):
        _check_taken(folder, config, identity, resume, overwrite)
    return folder


def prepare(folder: RunFolder, settings: dict[str, Any], inputs: Inputs, *, overwrite: bool) -> None:
    """Makes ``folder``, or tidies it for going on; call it after the checks, holding the lock."""
    if overwrite:
        _empty(folder.path)
    remove_incomplete(folder.checkpoints)
    for leftover in [*folder.path.glob(".*.partial"), *folder.path.glob(".*.replaced")]:
        _remove(leftover)
    if not (folder.path / CONFIG).exists():
        write_atomically(folder.path / INPUTS, json_bytes({"steps": STEPS, **inputs}))
        write_atomically(folder.path / CONFIG, json_bytes(settings))  # says that there is a run


def _empty(folder: Path) -> None:
    """The configuration goes last: a folder that holds anything else without it is taken for none of ours."""
    for path in sorted(folder.iterdir(), key=lambda path: path.name == CONFIG):
        if path.name != LOCK:
            _remove(path)


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _check_taken(folder: RunFolder, config: TrainConfig, identity: Inputs, resume: bool, overwrite: bool) -> None:
    path = folder.path
    if all(item.name in _BEFORE_THE_RUN or _is_partial(item) for item in path.iterdir()):
        return
    if not resume and not overwrite:
        raise ConfigurationError(
            f"output: {path} exists already; go on with --resume, replace it with --overwrite, or choose another"
        )
    if not (path / CONFIG).is_file():
        raise ConfigurationError(
            f"output: {path} holds no run ({CONFIG} is missing), so it is left alone; choose another"
        )
    if resume:
        refuse_other_run(path, config, identity)


def _is_partial(path: Path) -> bool:
    """Whether a kill left it while it was written: no name that a user gives."""
    return path.name.startswith(".") and path.suffix in (".partial", ".replaced")
