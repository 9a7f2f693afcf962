"""``python -m propetl.runtime.bench.worker``: measures one runtime, as told line by line on stdin.

Between requests it waits in a read, so it takes no core while another runtime is measured. It ends when stdin
does, hence also when its parent is killed.
"""

import os
import resource
import sys
import time
from collections.abc import Callable
from dataclasses import asdict
from functools import partial
from typing import Any, TextIO

from propetl.errors import BackendError, ProPETLError
from propetl.runtime.bench.memory import device_memory, own_memory
from propetl.runtime.bench.messages import (
    Cell,
    Load,
    MeasureAdding,
    MeasureDevice,
    MeasureDeviceMemory,
    MeasureLatency,
    MeasureMemory,
    MeasureMixed,
    MeasureSwitching,
    MeasureTokens,
    Request,
    RunOnce,
    Vocabulary,
    answer_line,
    error_line,
    request_of,
)
from propetl.runtime.bench.subjects import Feeds, Subject, TokenTimer, load_subject
from propetl.runtime.bench.timing import timed_calls, timed_pairs, warm_up, without_collector
from propetl.runtime.bench.tokens import feeds_of

Loader = Callable[[Load], Subject]
Answer = dict[str, Any]


class Worker:
    """Answers requests about the runtime that the first of them loads."""

    def __init__(self, loader: Loader) -> None:
        self._loader = loader
        self._subject: Subject | None = None
        self._vocabulary = Vocabulary(2, 0, ())
        self._feeds: dict[Cell, Feeds] = {}

    def answer(self, request: Request) -> Answer:
        """Does what ``request`` asks."""
        match request:
            case Load():
                self._vocabulary = request.vocabulary
                start = time.perf_counter_ns()
                self._subject = self._loader(request)
                return {"ns": time.perf_counter_ns() - start}
            case MeasureMemory():
                return asdict(own_memory())
            case RunOnce():
                return self._run_once(request)
            case MeasureLatency():
                return self._latency(request)
            case MeasureTokens():
                return self._tokens(request)
            case MeasureDevice():
                samples = self._loaded().device_samples(
                    request.task, self._inputs(request.cell), request.seconds, request.minimum
                )
                return {"samples": [asdict(item) for item in samples]}
            case MeasureDeviceMemory():
                return device_memory(request.device)
            case MeasureSwitching():
                return self._switching(request)
            case MeasureMixed():
                return self._mixed(request)
            case MeasureAdding():
                return {"ns": self._loaded().adding_times(request.task, request.repeats)}

    def _run_once(self, request: RunOnce) -> Answer:
        for cell in request.cells:
            for task in request.tasks:
                self._loaded().run(task, self._inputs(cell))
        return {}

    def _latency(self, request: MeasureLatency) -> Answer:
        call = partial(self._loaded().run, request.task, self._inputs(request.cell))
        with without_collector():
            warm_up(call, request.seconds)
            before = _preemptions()
            taken = timed_calls(call, request.seconds, request.minimum)
            return {"ns": taken, "preempted": _preemptions() - before}

    def _tokens(self, request: MeasureTokens) -> Answer:
        subject = self._loaded()
        if not isinstance(subject, TokenTimer):
            raise BackendError("the worker was asked to time tokens of a runtime that generates none")
        calls: list[list[int]] = []
        times = partial(subject.token_times, request.task, self._inputs(request.cell))
        with without_collector():
            warm_up(times, request.seconds)
            before = _preemptions()
            timed_calls(lambda: calls.append(times()), request.seconds, request.minimum)
            return {"calls": calls, "preempted": _preemptions() - before}

    def _switching(self, request: MeasureSwitching) -> Answer:
        """Tasks run as A A B B C C A A …: every other call switches, next to one that does not.

        Over a whole turn each task is once in either place, so what tasks differ by cancels.
        """
        feeds, tasks = self._inputs(request.cell), request.tasks
        calls = [partial(self._loaded().run, task, feeds) for task in tasks]
        with without_collector():
            for call in (*calls[1:], calls[0]):  # the first pair begins with the task that ran last
                warm_up(call, request.seconds / len(calls))
            return {"pairs": timed_pairs(calls, [*calls[1:], calls[0]], request.seconds)}

    def _mixed(self, request: MeasureMixed) -> Answer:
        """A batch of the first task, then a batch in which all take turns."""
        subject, feeds, tasks = self._loaded(), self._inputs(request.cell), request.tasks
        rows = [tasks[row % len(tasks)] for row in range(request.cell.batch)]
        mixed = partial(subject.run_mixed, rows, feeds)
        uniform = partial(subject.run, tasks[0], feeds)
        with without_collector():
            warm_up(mixed, request.seconds)
            warm_up(uniform, request.seconds)
            return {"pairs": timed_pairs([uniform], [mixed], request.seconds)}

    def _loaded(self) -> Subject:
        if self._subject is None:
            raise BackendError("the worker was asked to measure before it loaded a runtime")
        return self._subject

    def _inputs(self, cell: Cell) -> Feeds:
        if cell not in self._feeds:
            self._feeds[cell] = feeds_of(cell, self._vocabulary)
        return self._feeds[cell]


def serve(loader: Loader, requests: TextIO, answers: TextIO) -> None:
    """Answers every line of ``requests`` on ``answers``, until there are no more."""
    worker = Worker(loader)
    for line in requests:
        try:
            reply = answer_line(worker.answer(request_of(line)))
        except ProPETLError as error:
            reply = error_line(error)
        answers.write(reply + "\n")
        answers.flush()


def serve_standard_streams(loader: Loader) -> None:
    """:func:`serve` on stdin and stdout. Whatever else prints to stdout goes to stderr instead."""
    answers = os.fdopen(os.dup(sys.stdout.fileno()), "w", encoding="utf-8")
    os.dup2(sys.stderr.fileno(), sys.stdout.fileno())
    try:
        serve(loader, sys.stdin, answers)
        answers.close()
    except BrokenPipeError:  # the parent has gone; what is left in the buffer has no reader
        os._exit(1)


def _preemptions() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_nivcsw


if __name__ == "__main__":
    serve_standard_streams(load_subject)
