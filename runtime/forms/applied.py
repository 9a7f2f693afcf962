"""The tasks of a form in two stages, and the weights that their masks select.

What a task needs is read when it is first used and kept within a budget: its pack (masks as bits, and head), and the
weights that its masks select, which are 32 times as large and quickly made again.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial
from math import prod
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.pack import TaskPack
from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, Prepared, StagingEngine, load_engine
from propetl.runtime.engines.blocks import Distinct
from propetl.runtime.forms.bank import fixed_task
from propetl.runtime.forms.least_recently_used import LeastRecentlyUsed
from propetl.runtime.forms.task_table import TaskTable
from propetl.runtime.manifest import GraphInfo, Stages
from propetl.runtime.signatures import BANK
from propetl.task import TaskSpec

_SHARE_OF_PACKS = 3  # a thousand packs of MiniLM take 21.5 MB: a third of the 64 MiB that there are by default
_FLOAT_BYTES = 4


@dataclass(frozen=True, eq=False)
class KnownTask:
    """A task that can be run; equal to itself only, so that a name that is given again is another task.

    Attributes:
        name: of the task.
        info: problem, labels, columns.
        read: gives its pack.
    """

    name: str
    info: TaskSpec
    read: Callable[[], TaskPack]


class AppliedTasks:
    """Tasks by name, and the engine that applies their masks. Safe to use from many threads at once.

    Args:
        artifact: what was exported.
        form: switchable or bank.
        options: of the engines.
        task_memory: bytes that may be kept for tasks.
    """

    def __init__(self, artifact: Artifact, form: str, options: EngineOptions, task_memory: int) -> None:
        self.stages = stages_of(artifact, form)
        # The applying engine runs for a fraction of a millisecond: threads would cost more than they give.
        self._apply = as_staging(load_engine(artifact, self.stages.apply, replace(options, threads=1)))
        self._fixed = form == BANK
        names = artifact.manifest.forms[form].task_ids if self._fixed else artifact.manifest.tasks
        self._tasks = TaskTable(
            {name: KnownTask(name, artifact.task(name).info, partial(artifact.pack, name)) for name in names}
        )
        for_packs = task_memory // _SHARE_OF_PACKS
        self.budget = task_memory - for_packs
        self._packs = LeastRecentlyUsed[KnownTask, bytes](for_packs, _packed, self._is_here)
        self._weights = LeastRecentlyUsed[KnownTask, Distinct](self.budget, self._applied, self._is_here)

    def _is_here(self, task: KnownTask) -> bool:
        """Whether it was not removed: a call that still runs it keeps nothing for those that come."""
        return self._tasks.holds(task.name, task)

    @property
    def kept_bytes(self) -> int:
        """Bytes that are kept for tasks now."""
        return self._packs.bytes + self._weights.bytes

    @property
    def engine(self) -> tuple[GraphInfo, Engine]:
        """What applies masks, and its graph."""
        return self.stages.apply, self._apply

    def names(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._tasks.names()

    def known(self, task: str) -> KnownTask:
        """``task`` as it is now; its pack is read when its weights are first asked for."""
        return self._tasks.get(task)

    def weights(self, task: KnownTask) -> Distinct:
        """What its masks select, with a leading axis of 1; hold it as long as its tensors are used."""
        return self._weights.get(task)

    def row_weights(self, tasks: Sequence[KnownTask]) -> Prepared:
        """Weights for each row, or one for all of them where all have the same task; until this thread asks again."""
        found = {task: self.weights(task) for task in dict.fromkeys(tasks)}
        if len(found) == 1:
            return found[tasks[0]]
        return self._apply.stack([found[task] for task in tasks])

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked, ready to run, and keeps the pack: its file may go. Not to a bank."""
        if self._fixed:
            raise fixed_task(pack.task, "added")
        known = KnownTask(pack.task, pack.info, lambda: pack)
        self._tasks.add(pack.task, known)
        try:
            self._weights.get(known)
        except BaseException:
            self.remove(pack.task)
            raise

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it. Not of a bank."""
        self.known(task)
        if self._fixed:
            raise fixed_task(task, "removed")
        gone = self._tasks.remove(task)
        self._weights.drop(gone)
        self._packs.drop(gone)

    def applied_bytes(self, task: KnownTask) -> int:
        """Bytes of a task's weights: free sizes are its labels, and the leading axis is 1."""
        shapes = (item.shape[1:] for item in self.stages.apply.outputs)
        counts = (prod(size if isinstance(size, int) else task.info.outputs for size in shape) for shape in shapes)
        return _FLOAT_BYTES * sum(counts)

    def _applied(self, task: KnownTask) -> tuple[Distinct, int]:
        tensors = self._unpacked(self._packs.get(task), task.info.outputs)
        return self._apply.evaluate(self._apply.prepare(tensors)), self.applied_bytes(task)

    def _unpacked(self, content: bytes, labels: int) -> dict[str, NDArray[Any]]:
        """The tensors that :func:`_packed` put one after the other, with a leading axis of 1."""
        tensors, start = {}, 0
        for item in sorted(self.stages.apply.inputs, key=lambda item: item.name):
            shape = [size if isinstance(size, int) else labels for size in item.shape[1:]]
            array = np.frombuffer(content, item.dtype, prod(shape), start)
            tensors[item.name] = array.reshape(1, *shape)
            start += array.nbytes
        return tensors


def _packed(task: KnownTask) -> tuple[bytes, int]:
    """A pack's tensors one after the other, by name: an object for each would take a fifth of them on top."""
    content = b"".join(tensor.tobytes() for _, tensor in sorted(task.read().tensors().items()))
    return content, len(content)


def stages_of(artifact: Artifact, form: str) -> Stages:
    """The two stages of ``form``; :class:`ArtifactError` if it has none."""
    stages = artifact.manifest.forms[form].stages
    if stages is None:
        raise ArtifactError(f"{artifact.path}: form {form} has no stages; export it again")
    return stages


def as_staging(engine: Engine) -> StagingEngine:
    """``engine``, which is one, as its module says by ``can_stage``."""
    assert isinstance(engine, StagingEngine)
    return engine
