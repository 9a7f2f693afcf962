"""The run folder: what stands in it, and whether a run may start, go on or has ended."""

import fcntl
import json
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any

from propetl.errors import ConfigurationError
from propetl.files import json_bytes, write_atomically
from propetl.training.checkpoints import Checkpoint, complete_checkpoints, remove_incomplete
from propetl.training.config import CHANGEABLE, TrainConfig

CONFIG = "train-config.json"
REPORT = "train.json"
LOG = "log.jsonl"
LOCK = ".lock"


@dataclass(frozen=True)
class RunFolder:
    """Where one run keeps everything.

    train-config.json   the configuration, every default filled in
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
        """What ``train.json`` holds; None while the run has not ended."""
        try:
            report: dict[str, Any] = json.loads((self.path / REPORT).read_text("utf-8"))
            return report
        except FileNotFoundError:
            return None

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
        self.path.mkdir(parents=True, exist_ok=True)
        stream = (self.path / LOCK).open("w")
        try:
            fcntl.flock(stream, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            stream.close()
            raise ConfigurationError(
                f"{self.path}: another run is training in this folder; wait for it or stop it"
            ) from error
        return stream


def check(config: TrainConfig, identity: dict[str, Any], *, resume: bool, overwrite: bool) -> RunFolder:
    """The run folder of ``config``, if the run may use it; nothing is written.

    Raises:
        ConfigurationError: the folder is taken, or was made with another configuration.
    """
    folder = RunFolder(config.output)
    path = folder.path
    if path.is_symlink() or (path.exists() and not path.is_dir()):
        raise ConfigurationError(f"output: {path} is a file or a link; choose another path")
    if path.is_dir() and any(path.iterdir()):
        _check_taken(folder, {**config.to_json(), **identity}, resume, overwrite)
    return folder


def prepare(folder: RunFolder, config: TrainConfig, identity: dict[str, Any], *, overwrite: bool) -> None:
    """Makes ``folder``, or tidies it for going on; call it after :func:`check`, holding the lock."""
    if overwrite:
        for path in folder.path.iterdir():
            if path.name != LOCK:
                _remove(path)
    remove_incomplete(folder.checkpoints)
    for leftover in [*folder.path.glob(".bundle.*.partial"), *folder.path.glob(".bundle.*.replaced")]:
        shutil.rmtree(leftover)
    if not (folder.path / CONFIG).exists():
        write_atomically(folder.path / CONFIG, json_bytes({**config.to_json(), **identity}))


def _remove(path: Path) -> None:
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink()


def _check_taken(folder: RunFolder, now: dict[str, Any], resume: bool, overwrite: bool) -> None:
    path = folder.path
    if {item.name for item in path.iterdir()} == {LOCK}:
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
        _check_same(path, now)


def _check_same(path: Path, now: dict[str, Any]) -> None:
    try:
        before = json.loads((path / CONFIG).read_text("utf-8"))
    except ValueError as error:
        raise ConfigurationError(f"--resume: {path / CONFIG} is damaged; train again with --overwrite") from error
    for key in sorted((set(before) | set(now)) - CHANGEABLE):
        if before.get(key) != now.get(key):
            raise ConfigurationError(
                f"--resume: {key} is {now.get(key)!r}, but the run in {path} was started with {before.get(key)!r}"
            )
