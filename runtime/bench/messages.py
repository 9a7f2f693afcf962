"""What the parent asks of a worker, as JSON lines: one request, one answer, in turn::

request   {"do": "latency", …fields of the dataclass…}
answer    {"ok": {…}}  or  {"error": {"kind": "TaskError", "message": "…"}}
"""

import json
from dataclasses import asdict, dataclass
from typing import Any

from propetl import errors
from propetl.errors import BackendError, ProPETLError
from propetl.files import json_text


@dataclass(frozen=True)
class Cell:
    """One batch size and sequence length."""

    batch: int
    sequence: int


@dataclass(frozen=True)
class Vocabulary:
    """What random token ids are drawn from.

    Attributes:
        size: ids are below it.
        padding: an id that is not drawn.
        inputs: token inputs that the model takes.
    """

    size: int
    padding: int
    inputs: tuple[str, ...]


@dataclass(frozen=True)
class Load:
    """Make a runtime ready for one task; no inference yet.

    Attributes:
        source: folder of the artifact, or of the bundle for PyTorch.
        runtime: a form, or ``eager``.
        task: the task to make ready.
        provider: of the engine.
        threads: inside one operator.
        vocabulary: for the inputs of all later requests.
        device: number of the GPU.
        engine_cache: folder for engines that a provider builds; None for the user's cache folder.
        batch_size: rows of the largest batch that is going to be run.
        precision: which of several engines a provider of plans runs; None for the first.
        timed: whether the engine's work is to go into a stream that can be timed.
        new_tokens: that a call generates for each row; 0 where tasks have heads.
        beams: of a generation.
    """

    source: str
    runtime: str
    task: str
    provider: str
    threads: int
    vocabulary: Vocabulary
    device: int = 0
    engine_cache: str | None = None
    batch_size: int = 32
    precision: str | None = None
    timed: bool = False
    new_tokens: int = 0
    beams: int = 1
    allow_pickle: bool = False


@dataclass(frozen=True)
class MeasureMemory:
    """Answer: ``pss``, ``rss``, ``private`` in bytes."""


@dataclass(frozen=True)
class RunOnce:
    """One call for each of ``tasks`` and ``cells``; nothing is timed, the answer is empty."""

    tasks: tuple[str, ...]
    cells: tuple[Cell, ...]


@dataclass(frozen=True)
class MeasureLatency:
    """Answer: ``ns``, one number for each call; ``preempted``, how often the system took the core away."""

    task: str
    cell: Cell
    seconds: float
    minimum: int


@dataclass(frozen=True)
class MeasureTokens:
    """Answer: ``calls``, for each the nanoseconds from its beginning to each of its tokens; ``preempted`` as above."""

    task: str
    cell: Cell
    seconds: float
    minimum: int


@dataclass(frozen=True)
class MeasureDevice:
    """Answer: ``samples``, one for each way of running a batch on its device; empty where there is none."""

    task: str
    cell: Cell
    seconds: float
    minimum: int


@dataclass(frozen=True)
class MeasureDeviceMemory:
    """Answer: ``free`` and ``total`` bytes of the GPU; nothing where CUDA cannot be asked."""

    device: int


@dataclass(frozen=True)
class MeasureSwitching:
    """Answer: ``pairs`` of nanoseconds: a call with the same task as before, then one with another."""

    tasks: tuple[str, ...]
    cell: Cell
    seconds: float


@dataclass(frozen=True)
class MeasureMixed:
    """Answer: ``pairs`` of nanoseconds: a batch of one task, then a batch whose rows take turns."""

    tasks: tuple[str, ...]
    cell: Cell
    seconds: float


@dataclass(frozen=True)
class MeasureAdding:
    """Answer: ``ns``: times of adding ``task`` from its pack on disk to a session that runs."""

    task: str
    repeats: int


Request = (
    Load
    | MeasureMemory
    | RunOnce
    | MeasureLatency
    | MeasureTokens
    | MeasureDevice
    | MeasureDeviceMemory
    | MeasureSwitching
    | MeasureMixed
    | MeasureAdding
)

_REQUESTS: dict[str, type[Request]] = {
    "load": Load,
    "memory": MeasureMemory,
    "run_once": RunOnce,
    "latency": MeasureLatency,
    "tokens": MeasureTokens,
    "device": MeasureDevice,
    "device_memory": MeasureDeviceMemory,
    "switching": MeasureSwitching,
    "mixed": MeasureMixed,
    "adding": MeasureAdding,
}
_NAMES = {kind: name for name, kind in _REQUESTS.items()}


def request_line(request: Request) -> str:
    """``request`` as one line, without the newline."""
    return json_text({"do": _NAMES[type(request)], **asdict(request)}, ascii_only=True)


def request_of(line: str) -> Request:
    """Inverse of :func:`request_line`."""
    fields = json.loads(line)
    kind = _REQUESTS[fields.pop("do")]
    return kind(**{name: _parsed(name, value) for name, value in fields.items()})


def answer_line(answer: dict[str, Any]) -> str:
    """A result as one line."""
    return json_text({"ok": answer}, ascii_only=True)


def error_line(error: ProPETLError) -> str:
    """An error as one line."""
    return json_text({"error": {"kind": type(error).__name__, "message": str(error)}}, ascii_only=True)


def answer_of(line: str) -> dict[str, Any]:
    """The result in ``line``; an error in it is raised as it was in the worker."""
    message = json.loads(line)
    if "error" in message:
        raise _error_of(**message["error"])
    answer: dict[str, Any] = message["ok"]
    return answer


def _parsed(name: str, value: Any) -> Any:
    match name:
        case "cell":
            return Cell(**value)
        case "cells":
            return tuple(Cell(**item) for item in value)
        case "tasks":
            return tuple(value)
        case "vocabulary":
            return Vocabulary(value["size"], value["padding"], tuple(value["inputs"]))
    return value


def _error_of(kind: str, message: str) -> ProPETLError:
    if kind == "MissingExtraError":  # made from parts, which its message holds
        return BackendError(message)
    found = getattr(errors, kind, BackendError)
    error: ProPETLError = found(message)
    return error
