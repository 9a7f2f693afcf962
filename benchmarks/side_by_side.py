"""Runtimes side by side: each in a process of its own, asked in turn, so that a drift of the machine hits all alike."""

import sys
import time
from collections.abc import Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from types import TracebackType

import numpy as np

from propetl.errors import ProPETLError
from propetl.runtime.artifact import read_manifest
from propetl.runtime.bench.messages import (
    Cell,
    Load,
    MeasureAdding,
    MeasureLatency,
    MeasureMemory,
    MeasureMixed,
    MeasureSwitching,
    RunOnce,
    Vocabulary,
)
from propetl.runtime.bench.processes import WorkerProcess
from propetl.runtime.bench.stats import paired_ratio

WORKER = "propetl.runtime.bench.worker"
EAGER = "propetl.export.eager"


@dataclass(frozen=True)
class Runtime:
    """One runtime under measurement.

    Attributes:
        source: artifact, or bundle for PyTorch eager.
        form: that runs; ``bare`` and ``eager`` are forms here.
        module: of its worker.
        python: that runs the worker.
    """

    source: Path
    form: str
    module: str = WORKER
    python: str = sys.executable


class SideBySide:
    """Workers of several runtimes; use it in a ``with`` block."""

    def __init__(
        self,
        runtimes: Mapping[str, Runtime],
        artifact: Path,
        threads: int,
        task: str,
        missing: dict[str, str] | None = None,
    ) -> None:
        """Starts and loads a worker for each of ``runtimes``; ``artifact`` says which tokens they take.

        One that cannot be loaded is an error, or an entry of ``missing`` if that is given. ``seconds_to_answer`` tells
        how long each took from starting its process to its first answer.
        """
        self._task = task
        self._stack = ExitStack()
        self._workers: dict[str, WorkerProcess] = {}
        self.seconds_to_answer: dict[str, float] = {}
        vocabulary = _vocabulary(artifact)
        for name, runtime in runtimes.items():
            print(f"loading {name}", file=sys.stderr)
            start = time.perf_counter()
            try:
                worker = self._stack.enter_context(WorkerProcess(name, runtime.module, runtime.python))
                worker.ask(Load(str(runtime.source), runtime.form, task, "cpu", threads, vocabulary))
                worker.ask(RunOnce((task,), (Cell(1, 8),)))
            except (ProPETLError, OSError) as error:
                if missing is None:
                    raise
                missing[name] = str(error)
                print(f"  not run: {error}", file=sys.stderr)
                continue
            self._workers[name] = worker
            self.seconds_to_answer[name] = time.perf_counter() - start

    def __enter__(self) -> "SideBySide":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._stack.close()

    @property
    def names(self) -> tuple[str, ...]:
        """Runtimes that are loaded."""
        return tuple(self._workers)

    def medians(self, cell: Cell, seconds: float, rounds: int) -> dict[str, list[float]]:
        """Median nanoseconds of a call by runtime, one for each round."""
        found: dict[str, list[float]] = {name: [] for name in self._workers}
        names = list(self._workers)
        for round_ in range(rounds):
            for name in (*names[round_ % len(names) :], *names[: round_ % len(names)]):
                answer = self._workers[name].ask(MeasureLatency(self._task, cell, seconds, 3))
                found[name].append(float(np.median(answer["ns"])))
        return found

    def mixed_ratio(self, name: str, cell: Cell, tasks: Sequence[str], seconds: float) -> float:
        """A batch in which ``tasks`` take turns, against one of the first of them."""
        return paired_ratio(self._workers[name].ask(MeasureMixed(tuple(tasks), cell, seconds))["pairs"])

    def switching_share(self, name: str, cell: Cell, tasks: Sequence[str], seconds: float) -> float:
        """What a call costs more that switches the task, as a share of one that does not."""
        pairs = self._workers[name].ask(MeasureSwitching(tuple(tasks), cell, seconds))["pairs"]
        return paired_ratio(pairs) - 1

    def adding_ms(self, name: str, repeats: int) -> float:
        """Median milliseconds of adding a task from disk."""
        return float(np.median(self._workers[name].ask(MeasureAdding(self._task, repeats))["ns"])) / 1e6

    def pss(self, name: str, cells: Sequence[Cell], tasks: Sequence[str]) -> int:
        """Bytes (proportional set size) of a worker after it ran ``tasks``."""
        self._workers[name].ask(RunOnce(tuple(tasks), tuple(cells)))
        return int(self._workers[name].ask(MeasureMemory())["pss"])


def ratio(medians: Mapping[str, Sequence[float]], name: str, to: str) -> float:
    """Median over rounds of ``name`` to ``to``, taken within each round."""
    return float(np.median([one / other for one, other in zip(medians[name], medians[to], strict=True)]))


def _vocabulary(path: Path) -> Vocabulary:
    from tokenizers import Tokenizer

    artifact = read_manifest(path)
    size = Tokenizer.from_file(str(artifact.tokenizer_path)).get_vocab_size()
    return Vocabulary(size, artifact.manifest.pad_token_id, artifact.manifest.token_inputs)
