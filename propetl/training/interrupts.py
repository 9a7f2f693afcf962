"""Signals that end a run: a checkpoint is saved first where there is something to save."""

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from types import FrameType, TracebackType
from typing import Any

from rich.console import Console

from propetl.errors import Interrupted

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
_NOTICE = b"\nstopping: a checkpoint is saved first; Ctrl-C again ends at once\n"


class Interrupts:
    """While entered, Ctrl-C, SIGTERM and SIGHUP raise :class:`Interrupted`, or wait to be asked for.

    Handlers are installed in the main thread alone, for signals that are not ignored (as under ``nohup``), and what was
    there before is put back on leaving.
    """

    def __init__(self, console: Console) -> None:
        """``console`` tells that a signal has come."""
        self.asked = 0
        self._console = console
        self._waits = False
        self._before: dict[signal.Signals, Any] = {}

    def __enter__(self) -> "Interrupts":
        if threading.current_thread() is threading.main_thread():
            for number in _SIGNALS:
                if signal.getsignal(number) not in (signal.SIG_IGN, None):
                    self._before[number] = signal.signal(number, self._handle)
        return self

    def __exit__(self, *_: type[BaseException] | BaseException | TracebackType | None) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)

    @contextmanager
    def waiting(self) -> Iterator[None]:
        """Lets the block ask whether a signal has come (:attr:`asked` is its number, else 0), and stop where it can.

        Raises:
            Interrupted: at the end of a block that did not.
        """
        self._waits = True
        try:
            yield
        finally:
            self._waits = False
        if self.asked:
            raise Interrupted(self.asked)

    def _handle(self, number: int, _: FrameType | None) -> None:
        if number == signal.SIGHUP:
            self._console.quiet = True  # the terminal is gone, and writing to it would raise
        # A scheduler may send SIGTERM to each process and to the one that passes it on: only a key ends at once.
        if not self._waits or (self.asked and number == signal.SIGINT):
            raise Interrupted(number)
        if not self.asked:
            self.asked = number
            self._tell()

    def _tell(self) -> None:
        """By the system's own call: the console may be in the middle of a line."""
        if not self._console.quiet:
            with suppress(OSError, ValueError):
                os.write(self._console.file.fileno(), _NOTICE)
