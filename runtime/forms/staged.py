"""Staged: masks are applied once per switch; every batch then runs one graph, whatever its tasks.

Serves the forms switchable and bank. What a task needs is read when it is first used and kept within a budget: its pack
(masks as bits, and head), and the weights that its masks select, which are 32 times as large and quickly made again.
"""

import threading
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.format import TaskInfo
from propetl.bundle.pack import TaskPack
from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, Prepared, StagingEngine, load_engine
from propetl.runtime.engines.blocks import Distinct
from propetl.runtime.forms import BoundTask, Feeds, Logits, taken_task, unknown_task
from propetl.runtime.forms.bank import fixed_task
from propetl.runtime.forms.least_recently_used import LeastRecentlyUsed
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import BANK

DEFAULT_TASK_MEMORY = 64 << 20
"""Bytes for what tasks need: of MiniLM with a bottleneck of 32, weights of 80 tasks and packs of 700."""

_SHARE_OF_PACKS = 4
_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class _KnownTask:
    """A task that can be run; equal to itself only, so that a name that is given again is another task."""

    info: TaskInfo
    read: Callable[[], TaskPack]


@dataclass(frozen=True)
class StagedTask(BoundTask):
    """A bound task that can also be one of several in a batch.

    Attributes:
        key: what two tasks have in common if they are the same.
        weights: gives the applied weights, with a leading axis of 1.
    """

    key: object
    weights: Callable[[], Distinct]


class StagedForm:
    """Any tasks over two engines, one that applies masks and one that runs text."""

    def __init__(self, artifact: Artifact, form: str, options: EngineOptions, task_memory: int) -> None:
        info = artifact.manifest.forms[form]
        if info.stages is None:
            raise ArtifactError(f"{artifact.path}: form {form} has no stages; export it again")
        self._stages = info.stages
        # The applying engine runs for a fraction of a millisecond: threads would cost more than they give.
        self._apply = _staging(load_engine(artifact, info.stages.apply, replace(options, threads=1)))
        self._run = _staging(load_engine(artifact, info.stages.run, options))
        self._fixed = form == BANK
        self._lock = threading.Lock()
        names = info.task_ids if self._fixed else artifact.manifest.tasks
        # Never changed in place: a call reads this reference once and keeps what it found.
        self._tasks = {name: _KnownTask(artifact.task(name).info, partial(artifact.pack, name)) for name in names}
        for_packs = task_memory // _SHARE_OF_PACKS
        self._packs = LeastRecentlyUsed[_KnownTask, bytes](for_packs, _packed)
        self._weights = LeastRecentlyUsed[_KnownTask, Distinct](task_memory - for_packs, self._applied)

    @property
    def task_bytes(self) -> int:
        """Bytes that are kept for tasks now."""
        return self._packs.bytes + self._weights.bytes

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return tuple(self._tasks)

    def bind(self, task: str) -> StagedTask:
        """``task`` as it is now; its pack is read when it is first run."""
        tasks = self._tasks
        if task not in tasks:
            raise unknown_task(task, tuple(tasks))
        known = tasks[task]
        weights = partial(self._weights.get, known)

        def infer(feeds: Feeds) -> Logits:
            return self._run.run(feeds, weights())

        return StagedTask(task, known.info, infer, known, weights)

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits ``[outputs of its task]`` of each row; ``tasks`` has one entry for each row."""
        staged = [task for task in tasks if isinstance(task, StagedTask)]  # all of them: bind() makes no others
        logits = self._run.run(feeds, self._row_weights(staged))  # [batch, widest head among the rows]
        return [row[: task.info.outputs] for row, task in zip(logits, tasks, strict=True)]

    def _row_weights(self, tasks: Sequence[StagedTask]) -> Prepared:
        """Weights for each row, or one for all of them where all have the same task."""
        found = {key: weights() for key, weights in {task.key: task.weights for task in tasks}.items()}
        if len(found) == 1:
            return found[tasks[0].key]
        return self._run.stack([found[task.key] for task in tasks])

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The two engines, which run any task that is here."""
        self.bind(task)
        return ((self._stages.apply, self._apply), (self._stages.run, self._run))

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked, ready to run, and keeps the pack: its file may go. Not to a bank."""
        if self._fixed:
            raise fixed_task(pack.task, "added")
        known = _KnownTask(pack.info, lambda: pack)
        with self._lock:
            if pack.task in self._tasks:
                raise taken_task(pack.task)
            self._tasks = {**self._tasks, pack.task: known}
        self._weights.get(known)

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it. Not of a bank."""
        self.bind(task)
        if self._fixed:
            raise fixed_task(task, "removed")
        with self._lock:
            if task not in self._tasks:
                raise unknown_task(task, tuple(self._tasks))
            gone = self._tasks[task]
            self._tasks = {name: known for name, known in self._tasks.items() if name != task}
        self._weights.drop(gone)
        self._packs.drop(gone)

    def _applied(self, task: _KnownTask) -> tuple[Distinct, int]:
        tensors = self._unpacked(self._packs.get(task), task.info.outputs)
        return self._apply.evaluate(self._apply.prepare(tensors)), self._applied_bytes(task.info.outputs)

    def _unpacked(self, content: bytes, labels: int) -> dict[str, NDArray[Any]]:
        """The tensors that :func:`_packed` put one after the other, with a leading axis of 1."""
        tensors, start = {}, 0
        for item in sorted(self._stages.apply.inputs, key=lambda item: item.name):
            shape = [size if isinstance(size, int) else labels for size in item.shape[1:]]
            array = np.frombuffer(content, item.dtype, prod(shape), start)
            tensors[item.name] = array.reshape(1, *shape)
            start += array.nbytes
        return tensors

    def _applied_bytes(self, labels: int) -> int:
        """Bytes of one task's weights: free sizes are its labels, and the leading axis is 1."""
        shapes = (item.shape[1:] for item in self._stages.apply.outputs)
        counts = (prod(size if isinstance(size, int) else labels for size in shape) for shape in shapes)
        return _FLOAT_BYTES * sum(counts)


def _packed(task: _KnownTask) -> tuple[bytes, int]:
    """A pack's tensors one after the other, by name: an object for each would take a fifth of them on top."""
    content = b"".join(tensor.tobytes() for _, tensor in sorted(task.read().tensors().items()))
    return content, len(content)


def _staging(engine: Engine) -> StagingEngine:
    assert isinstance(engine, StagingEngine)  # as the engine's module says in STAGING
    return engine
