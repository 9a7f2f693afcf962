"""Mutants in a process of their own: if one ends it, or holds it up, that is an outcome, and the next one is read."""

import json
import os
import selectors
import signal
import subprocess
import sys
import tempfile
from pathlib import Path
from types import TracebackType

from tests.fuzzing.campaign import CRASH, HANG, Tally
from tests.fuzzing.worker import NUMBER_BYTES

ROOT = Path(__file__).resolve().parents[2]
PATIENCE = 60.0
"""Seconds that one mutant may take before it counts as one that never ends."""

STARTING = 300.0
"""Seconds that a worker may take to import, and to write its files."""


class Isolated:
    """A worker that is started anew after each mutant that ended it.

    Args:
        folder: for its files; one in memory (``/dev/shm``) is fastest.
        seed: of the mutants.
        worker: module that is run.
    """

    def __init__(self, folder: Path, seed: int, worker: str = "tests.fuzzing.worker") -> None:
        self._folder, self._seed, self._worker = folder, seed, worker
        self._number = folder / "number"
        self._number.write_bytes(bytes(NUMBER_BYTES))
        self._process: subprocess.Popen[str] | None = None

    def run(self, first: int, count: int) -> Tally:
        """What becomes of ``count`` mutants from number ``first`` on."""
        tally, end = Tally(), first + count
        while first < end:
            found = self._asked(first, end - first)
            if found is not None:
                tally += found
                break
            ended, (outcome, words) = self._noted(), self._ending()
            if ended > first:
                tally += self.run(first, ended - first)  # those before it are read once more, and counted now
            tally.add(ended, "unknown", outcome, words)
            first = ended + 1
        return tally

    def close(self) -> None:
        """Ends the worker."""
        if self._process is not None:
            self._process.kill()
            self._process.communicate()
            self._process = None

    def __enter__(self) -> "Isolated":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _asked(self, first: int, count: int) -> Tally | None:
        """The answer; None if the worker ended, or stands still."""
        process = self._process or self._started()
        assert process.stdin is not None
        process.stdin.write(f"{first} {count}\n")
        process.stdin.flush()
        line = self._line(process, PATIENCE)
        return Tally.from_json(json.loads(line)) if line else None

    def _started(self) -> "subprocess.Popen[str]":
        scratch = Path(tempfile.mkdtemp(dir=self._folder))
        command = [sys.executable, "-m", self._worker, str(scratch), str(self._seed), str(self._number)]
        environment = os.environ | {"OMP_NUM_THREADS": "1", "TOKENIZERS_PARALLELISM": "false"}
        self._process = process = subprocess.Popen(
            command,
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,  # reports of a library's panics
            text=True,
            cwd=ROOT,
            env=environment,
        )
        if self._line(process, STARTING) != "ready\n":
            raise RuntimeError(f"the worker did not start: {' '.join(command)}")
        return process

    def _line(self, process: "subprocess.Popen[str]", patience: float) -> str:
        """The next line; empty if the process ended, or was at one mutant for more than ``patience`` seconds."""
        assert process.stdout is not None
        with selectors.DefaultSelector() as selector:
            selector.register(process.stdout, selectors.EVENT_READ)
            before = -1
            while not selector.select(patience):
                if self._noted() == before:
                    return ""
                before = self._noted()
        return process.stdout.readline()

    def _noted(self) -> int:
        return int.from_bytes(self._number.read_bytes(), "little")

    def _ending(self) -> tuple[str, str]:
        """How the worker ended; one that still runs stands still, and is ended here."""
        assert self._process is not None
        try:
            code = self._process.wait(1)
        except subprocess.TimeoutExpired:
            outcome = HANG, f"took more than {PATIENCE:.0f} s"
        else:
            outcome = CRASH, signal.Signals(-code).name if code < 0 else f"ended with code {code}"
        self.close()
        return outcome
