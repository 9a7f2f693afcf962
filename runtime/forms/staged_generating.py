"""Staged, for tasks that are answered in text: masks are applied once per switch, and in no step of a generation.

What one graph makes of a task's masks stays where the engine runs, and is fed to the graphs of all parts.
"""

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import TypeVar

import numpy as np

from propetl.bundle.pack import TaskPack
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions
from propetl.runtime.forms import BoundTask, Feeds, Logits
from propetl.runtime.forms.applied import AppliedTasks, KnownTask
from propetl.runtime.forms.part_engines import PartEngines
from propetl.runtime.forms.text_tasks import GeneratingTask
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.generation.steps import Tokens
from propetl.runtime.generation.task_inputs import TaskInputs
from propetl.runtime.manifest import GraphInfo

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class _StagedTask(GeneratingTask):
    """A bound task that can also be one of several in a batch."""

    known: KnownTask


class StagedGeneratingForm:
    """Any tasks over one engine that applies masks and the engines of the parts; a batch may mix tasks."""

    def __init__(self, artifact: Artifact, form: str, options: EngineOptions, task_memory: int) -> None:
        self._tasks = AppliedTasks(artifact, form, options, task_memory)
        self._engines = PartEngines(artifact, self._tasks.stages.run, options)

    @property
    def task_bytes(self) -> int:
        """Bytes that are kept for tasks now."""
        return self._tasks.kept_bytes

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._tasks.names()

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The engines, which run any task that is here; the one that applies masks comes first."""
        self._tasks.known(task)
        return (self._tasks.engine, *self._engines.with_graphs)

    def bind(self, task: str) -> GeneratingTask:
        """``task`` as it is now; its pack is read when it is first run."""
        known = self._tasks.known(task)

        def inputs(rows: int) -> TaskInputs:
            return TaskInputs(self._engines.taken, alike=self._tasks.weights(known))

        bound = self._engines.bound(task, known.info, inputs)
        return _StagedTask(bound.name, bound.info, bound.infer, bound.generate, bound.start, known)

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits ``[vocabulary]`` of each row's first token; ``tasks`` has one entry for each row."""

        def first(known: Sequence[KnownTask], rows: slice) -> list[Logits]:
            return list(self._engines.start(_at(feeds, rows), self._inputs(known)).first())

        return list(self._together(tasks, 1, first))

    def generate_mixed(
        self, tasks: Sequence[BoundTask], feeds: Feeds, options: GenerationOptions, places: Tokens
    ) -> list[Tokens]:
        """Generates for rows that each have a task of their own, all in the same way."""

        def generated(known: Sequence[KnownTask], rows: slice) -> list[Tokens]:
            return self._engines.generate(_at(feeds, rows), self._inputs(known), options, places[rows])

        return list(self._together(tasks, options.beams, generated))

    def _together(
        self, tasks: Sequence[BoundTask], beams: int, run: Callable[[Sequence[KnownTask], slice], list[Answer]]
    ) -> Iterator[Answer]:
        """Answers of ``run`` in the order of the rows, as many at once as have room for weights of their own."""
        known = [task.known for task in tasks if isinstance(task, _StagedTask)]  # all: bind() makes no others
        weights = beams * self._tasks.applied_bytes(known[0])
        at_once = len(known) if len(set(known)) == 1 else max(1, self._tasks.budget // max(1, weights))
        for start in range(0, len(known), at_once):
            rows = slice(start, start + at_once)
            yield from run(known[rows], rows)

    def _inputs(self, known: Sequence[KnownTask]) -> TaskInputs:
        weights = self._tasks.row_weights(known)
        if len(set(known)) == 1:
            return TaskInputs(self._engines.taken, alike=weights)
        return TaskInputs(self._engines.taken, of_rows=weights)

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked, ready to run, and keeps the pack: its file may go. Not to a bank."""
        self._tasks.add(pack)

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it. Not of a bank."""
        self._tasks.remove(task)


def _at(feeds: Feeds, rows: slice) -> dict[str, np.ndarray[tuple[int, ...], np.dtype[np.int64]]]:
    return {name: ids[rows] for name, ids in feeds.items()}
