"""What a run writes down while it trains: ``log.jsonl``, TensorBoard, and a line or a bar on the screen."""

import math
import time
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeRemainingColumn
from transformers import TrainerCallback, TrainerControl, TrainerState, TrainingArguments

from propetl import fields
from propetl.errors import ConfigurationError
from propetl.files import json_text, write_atomically
from propetl.strict_json import parse_json
from propetl.training.evaluate import AVERAGE
from propetl.training.processes import Processes
from propetl.training.scalars import ScalarWriter

_SECONDS_BETWEEN_LINES = 15.0
_STEPS_BEFORE_ESTIMATE = 5  # the first ones are slower


class RunLog(TrainerCallback):
    """Appends every log entry of the Trainer to ``log.jsonl``, and to TensorBoard if asked for.

    Of several processes the first one writes, and what it raises, as when the disk is full, ends all of them.
    """

    def __init__(
        self, path: Path, tensorboard: Path | None, processes: Processes, first: dict[str, Any] | None = None
    ) -> None:
        """``first`` is the entry with which the log of a new run begins."""
        self.path = path
        self.tensorboard = tensorboard
        self.processes = processes
        self.first = first
        self._scalars: ScalarWriter | None = None

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Drops lines beyond the step that a resumed run starts from."""
        self.processes.on_first(lambda: self._begin(state.global_step))

    def _begin(self, step: int) -> None:
        _truncate(self.path, step)
        if self.first is not None and not (self.path.is_file() and self.path.stat().st_size):
            self._append(0, self.first)
        if self.tensorboard is not None:
            self._scalars = ScalarWriter(self.tensorboard, step + 1)

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        """Writes one entry; a loss that is no number ends the run."""
        self.processes.on_first(lambda: self._write(logs, state.global_step))

    def _write(self, logs: dict[str, Any], step: int) -> None:
        _refuse_divergence(logs, step)
        self._append(step, logs)
        if self._scalars is not None:
            self._scalars.write({_tag(key): value for key, value in logs.items()}, step)

    def _append(self, step: int, entry: dict[str, Any]) -> None:
        with self.path.open("a", encoding="utf-8") as stream:
            stream.write(json_text({"step": step, "time": round(time.time(), 3), **entry}) + "\n")


class ProgressDisplay(TrainerCallback):
    """A bar on a terminal; elsewhere a line at every evaluation and every quarter of a minute."""

    def __init__(self, console: Console) -> None:
        self.console = console
        self._bar: Progress | None = None
        self._task = TaskID(0)
        self._loss = ""
        self._last_line = 0.0
        self._started = (0.0, 0)

    def on_train_begin(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Shows where the run starts."""
        self._started = (time.monotonic(), state.global_step)
        if self.console.is_terminal:
            columns = (TextColumn("training"), BarColumn(), MofNCompleteColumn(), TimeRemainingColumn())
            self._bar = Progress(*columns, TextColumn("{task.fields[loss]}"), console=self.console)
            self._task = self._bar.add_task("", total=state.max_steps, completed=state.global_step, loss="")
            self._bar.start()

    def on_step_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Moves the bar, or prints a line if the last one is old."""
        if self._bar is not None:
            self._bar.update(self._task, completed=state.global_step, loss=self._loss)
        elif time.monotonic() - self._last_line > _SECONDS_BETWEEN_LINES:
            self._last_line = time.monotonic()
            parts = (f"step {state.global_step}/{state.max_steps}", self._loss, self._remaining(state))
            self.console.print("  ".join(filter(None, parts)))

    def on_log(
        self,
        args: TrainingArguments,
        state: TrainerState,
        control: TrainerControl,
        logs: Any = None,
        **_: Any,
    ) -> None:
        """Remembers the loss; prints an evaluation."""
        if "loss" in logs:
            self._loss = f"loss {logs['loss']:.4f}"
        if AVERAGE in logs:
            self.console.print(f"step {state.global_step}/{state.max_steps}  {_evaluation(logs)}")

    def on_train_end(self, args: TrainingArguments, state: TrainerState, control: TrainerControl, **_: Any) -> None:
        """Leaves the bar as it stands."""
        self.close()

    def close(self) -> None:
        """Gives the terminal back, also after an error."""
        if self._bar is not None:
            self._bar.stop()
            self._bar = None

    def _remaining(self, state: TrainerState) -> str:
        since, first = self._started
        done = state.global_step - first
        if done < _STEPS_BEFORE_ESTIMATE:
            return ""
        seconds = (time.monotonic() - since) / done * (state.max_steps - state.global_step)
        return f"about {max(1, round(seconds / 60))} min left"


def _evaluation(logs: dict[str, float]) -> str:
    scores = [
        f"{key.removeprefix('eval_')} {value:.4f}"
        for key, value in logs.items()
        if key.startswith("eval_") and key != AVERAGE
    ]
    return f"average {logs[AVERAGE]:.4f}  ({', '.join(scores)})"


def _refuse_divergence(logs: dict[str, Any], step: int) -> None:
    for key in ("loss", "train_loss"):
        if key in logs and not math.isfinite(logs[key]):
            raise ConfigurationError(
                f"the loss is {logs[key]} at step {step}: training diverged; lower the learning rates"
            )


def _tag(key: str) -> str:
    """TensorBoard groups by what stands before the first slash."""
    return f"eval/{key.removeprefix('eval_')}" if key.startswith("eval_") else f"train/{key.removeprefix('train_')}"


def _truncate(path: Path, step: int) -> None:
    """Keeps the lines up to ``step``: a killed run may have logged further than its last checkpoint."""
    if not path.is_file():
        return
    lines = path.read_bytes().splitlines(keepends=True)
    kept = [line for line in lines if line.endswith(b"\n") and _step_of(line, path) <= step]
    if len(kept) < len(lines):
        write_atomically(path, b"".join(kept))


def _step_of(line: bytes, path: Path) -> int:
    try:
        return fields.whole(fields.need(fields.entries(parse_json(line, not_finite=True), "entry"), "step"), "step")
    except ValueError as error:
        raise ConfigurationError(f"{path}: a line is damaged ({error}); remove the line, or the file") from error
