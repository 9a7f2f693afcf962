"""Standard streams that are closed, full, or read by somebody who has gone."""

import errno
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress

import click

from propetl.cli.failures import WRONG_INPUT

READER_GONE = 1
"""Exit code where nobody reads the output any more, as click has it."""

_GONE = (errno.EPIPE, errno.EBADF)


@contextmanager
def standard_streams() -> Iterator[None]:
    """Runs a command with three open streams, and flushes its output before Python does, which would print a trace.

    Raises:
        SystemExit: the command's own, or that of an output that could not be written.
    """
    _open_missing()
    try:
        try:
            yield
        finally:
            sys.stdout.flush()
    except OSError as error:
        _discard_output()
        if error.errno in _GONE:
            sys.exit(READER_GONE)
        say_error(f"standard output cannot be written: {error.strerror or error}")
        sys.exit(WRONG_INPUT)


def discard_broken_output() -> None:
    """If what is still to be written cannot be, sends it to nobody: Python would try once more at its end."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    with suppress(OSError):  # a test's output is no file
        nowhere = os.open(os.devnull, os.O_WRONLY)
        os.dup2(nowhere, sys.stdout.fileno())
        os.close(nowhere)


def say_error(message: str) -> None:
    """Prints one line on standard error; if that is full or gone, the exit code has to do."""
    with suppress(OSError):
        click.secho(f"propetl: error: {message}", fg="red", err=True)


def _open_missing() -> None:
    """Opens what was closed (``>&-``) to nobody: the next file opened would take its place and be printed into."""
    for number, name in enumerate(("stdin", "stdout", "stderr")):
        if getattr(sys, name) is None:
            descriptor = os.open(os.devnull, os.O_RDWR)
            if descriptor != number:
                os.dup2(descriptor, number)
                os.close(descriptor)
            setattr(sys, name, os.fdopen(number, "w" if number else "r", encoding="utf-8"))
