"""Staged: masks are applied once per switch; every batch then runs one graph, whatever its tasks.

Serves the forms switchable and bank of tasks with heads.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

from propetl.bundle.pack import TaskPack
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, load_engine
from propetl.runtime.engines.blocks import Distinct
from propetl.runtime.forms import BoundTask, Feeds, Logits
from propetl.runtime.forms.answers import answers_by_row, answers_of
from propetl.runtime.forms.applied import AppliedTasks, KnownTask, as_staging, stages_of
from propetl.runtime.manifest import MODEL, GraphInfo


@dataclass(frozen=True)
class StagedTask(BoundTask):
    """A bound task that can also be one of several in a batch.

    Attributes:
        known: what two tasks have in common if they are the same.
        weights: gives the applied weights, with a leading axis of 1.
    """

    known: KnownTask
    weights: Callable[[], Distinct]


class StagedForm:
    """Any tasks over two engines, one that applies masks and one that runs text."""

    def __init__(self, artifact: Artifact, form: str, options: EngineOptions, task_memory: int) -> None:
        self._graph = stages_of(artifact, form).run[MODEL]
        self._run = as_staging(load_engine(artifact, self._graph, options))  # first: it takes longest
        self._tasks = AppliedTasks(artifact, form, options, task_memory)
        self._family = artifact.manifest.backbone.family

    @property
    def task_bytes(self) -> int:
        """Bytes that are kept for tasks now."""
        return self._tasks.kept_bytes

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._tasks.names()

    def bind(self, task: str) -> StagedTask:
        """``task`` as it is now; its pack is read when it is first run."""
        known = self._tasks.known(task)
        weights = partial(self._tasks.weights, known)

        def infer(feeds: Feeds) -> Logits:
            return answers_of(self._run.run(feeds, weights()), known.info, feeds, self._family)

        return StagedTask(task, known.info, infer, known, weights)

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits of each row as its task gives them; ``tasks`` has one entry for each row."""
        staged = [task.known for task in tasks if isinstance(task, StagedTask)]  # all of them: bind() makes no others
        logits = self._run.run(feeds, self._tasks.row_weights(staged))  # [batch, (sequence,) widest head]
        return answers_by_row(logits, [task.info for task in tasks], feeds, self._family)

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The two engines, which run any task that is here."""
        self._tasks.known(task)
        return (self._tasks.engine, (self._graph, self._run))

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked, ready to run, and keeps the pack: its file may go. Not to a bank."""
        self._tasks.add(pack)

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it. Not of a bank."""
        self._tasks.remove(task)
