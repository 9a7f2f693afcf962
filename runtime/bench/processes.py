"""Processes of the benchmark: workers that are asked line by line, and others that are timed as a whole."""

import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import IO, Any

import propetl
from propetl.errors import BackendError
from propetl.runtime.bench.messages import Request, answer_of, request_line

_SECONDS_TO_END = 2.0


class WorkerProcess:
    """A worker; use it in a ``with`` block."""

    def __init__(self, name: str, module: str, python: str = sys.executable) -> None:
        """Starts ``python -m module``; ``name`` is what errors call it."""
        self._name = name
        self._errors = tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace")  # noqa: SIM115 (see close)
        self._process = _start([python, "-m", module], self._errors)

    def ask(self, request: Request) -> dict[str, Any]:
        """Sends ``request`` and waits for its answer.

        Raises:
            ProPETLError: the worker's own error, or it ended without an answer.
        """
        assert self._process.stdin is not None and self._process.stdout is not None
        try:
            self._process.stdin.write(request_line(request) + "\n")
            self._process.stdin.flush()
            line = self._process.stdout.readline()
        except BrokenPipeError:
            line = ""
        if not line:
            raise _ended(self._name, self._process, self._errors)
        return answer_of(line)

    def close(self) -> None:
        """Ends the process, by force if it does not hear."""
        _end(self._process)
        self._errors.close()

    def __enter__(self) -> "WorkerProcess":
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def timed_first_line(name: str, arguments: Sequence[str]) -> tuple[int, dict[str, Any]]:
    """Nanoseconds from starting ``python arguments…`` to its first line on stdout, and that line's JSON.

    Raises:
        BackendError: it ended without a line.
    """
    with tempfile.TemporaryFile("w+", encoding="utf-8", errors="replace") as errors:
        start = time.perf_counter_ns()
        process = _start([sys.executable, *arguments], errors)
        try:
            assert process.stdout is not None
            line = process.stdout.readline()
            taken = time.perf_counter_ns() - start
            if not line:
                raise _ended(name, process, errors)
            found: dict[str, Any] = json.loads(line)
            return taken, found
        finally:
            _end(process)


def _start(command: Sequence[str], errors: IO[str]) -> "subprocess.Popen[str]":
    return subprocess.Popen(
        command,
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=errors,
        text=True,
        encoding="utf-8",
        env=_environment(),
        start_new_session=True,  # Ctrl-C reaches the parent alone, which then closes its workers
    )


def _environment() -> dict[str, str]:
    """This environment, in which a source tree that is not installed is found too, and keeps its bytecode.

    An installed package has it; compiling the sources anew in each process takes as long as a first answer.
    """
    root = Path(propetl.__file__).resolve().parents[1]
    kept = {name: value for name, value in os.environ.items() if name != "PYTHONDONTWRITEBYTECODE"}
    if "site-packages" in root.parts:
        return kept
    paths = [str(root), *filter(None, [kept.get("PYTHONPATH")])]
    return {**kept, "PYTHONPATH": os.pathsep.join(paths)}


def _end(process: "subprocess.Popen[str]") -> None:
    assert process.stdin is not None and process.stdout is not None
    with suppress(BrokenPipeError):  # it ended before it read all
        process.stdin.close()
    try:
        process.wait(_SECONDS_TO_END)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    process.stdout.close()


def _ended(name: str, process: "subprocess.Popen[str]", errors: IO[str]) -> BackendError:
    code = process.wait()
    errors.seek(0)
    lines = [line.strip() for line in errors if line.strip()]
    how = f"was ended by signal {-code}" if code < 0 else f"ended with code {code}"
    hint = "; is there enough memory?" if code == -9 else ""
    return BackendError(f"the process that runs {name} {how}: {lines[-1] if lines else 'no message'}{hint}")
