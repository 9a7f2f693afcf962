"""What was measured, as it came in; :mod:`propetl.runtime.bench.report` makes figures of it."""

from collections import defaultdict
from dataclasses import dataclass, field

from propetl.runtime.bench.device import DeviceSamples
from propetl.runtime.bench.memory import Memory
from propetl.runtime.bench.messages import Cell

Pairs = list[tuple[int, int]]
Place = tuple[str, Cell]
"""Runtime and cell."""

VERIFIED, TRUSTED = "verified", "trusted"


@dataclass(frozen=True)
class Start:
    """One cold start; nanoseconds.

    Attributes:
        total: from starting the process to reading its answer, interpreter included.
        imports: of the engine and the session.
        opening: reading, checking and loading.
        running: the first inference.
    """

    total: int
    imports: int
    opening: int
    running: int


@dataclass(frozen=True)
class Visit:
    """One round's calls of one runtime in one cell.

    Attributes:
        ns: nanoseconds of each call.
        preempted: times that the system took the core away meanwhile.
    """

    ns: list[int]
    preempted: int


@dataclass(frozen=True)
class MemoryStages:
    """One process, alone on the machine.

    Attributes:
        loaded: one task ready, nothing run.
        run: after every cell ran.
        all_tasks: after every task that takes part in switching ran; None with one task.
    """

    loaded: Memory
    run: Memory
    all_tasks: Memory | None


@dataclass
class Samples:
    """Filled step by step.

    Attributes:
        memory: by runtime.
        interpreter: nanoseconds of starting Python, a round each.
        engine_import: the same with importing what runs the engines.
        starts: by runtime and ``verified`` or ``trusted``, a round each.
        latency: visits, a round each.
        tokens: of a backbone that generates, a round each: for every call, nanoseconds to each of its tokens.
        loads: nanoseconds of loading one task's engine, files hashed; the first may have built it.
        device: by runtime and cell, a round each: every way of running a batch.
        device_bytes: by runtime: of the GPU after loading one task, and after running every cell.
        switching, mixed: pairs of nanoseconds, a round each.
        adding: nanoseconds by runtime.
    """

    memory: dict[str, MemoryStages] = field(default_factory=dict)
    interpreter: list[int] = field(default_factory=list)
    engine_import: list[int] = field(default_factory=list)
    starts: defaultdict[tuple[str, str], list[Start]] = field(default_factory=lambda: defaultdict(list))
    latency: defaultdict[Place, list[Visit]] = field(default_factory=lambda: defaultdict(list))
    tokens: defaultdict[Place, list[list[list[int]]]] = field(default_factory=lambda: defaultdict(list))
    loads: defaultdict[str, list[int]] = field(default_factory=lambda: defaultdict(list))
    device: defaultdict[Place, list[list[DeviceSamples]]] = field(default_factory=lambda: defaultdict(list))
    device_bytes: dict[str, tuple[int, int]] = field(default_factory=dict)
    switching: defaultdict[Place, list[Pairs]] = field(default_factory=lambda: defaultdict(list))
    mixed: defaultdict[Place, list[Pairs]] = field(default_factory=lambda: defaultdict(list))
    adding: dict[str, list[int]] = field(default_factory=dict)
