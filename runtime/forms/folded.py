"""Folded: one graph and one engine for each task, loaded when the task is first used."""

import threading

from propetl.bundle.pack import TaskPack
from propetl.errors import TaskError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, load_engine
from propetl.runtime.forms import BoundTask, Feeds, Logits
from propetl.runtime.forms.task_table import TaskTable
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import FOLDED


class FoldedForm:
    """Masks vanished into the weights: as fast as the backbone with a plain adapter."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        self._artifact = artifact
        self._options = options
        self._graphs = TaskTable(artifact.manifest.forms[FOLDED].graphs)
        self._engines: dict[str, Engine] = {}
        self._lock = threading.Lock()

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._graphs.names()

    def bind(self, task: str) -> BoundTask:
        """``task`` with its engine, which is loaded if this is the first call."""
        ((_, engine),) = self.engines(task)

        def infer(feeds: Feeds) -> Logits:
            return engine.run(feeds, {})

        return BoundTask(task, self._artifact.task(task).info, infer)

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The engine of ``task``, loaded if it was not used before."""
        loaded = isinstance(task, str) and self._engines.get(task)  # what is no name at all may have no hash
        engine = loaded or self._load(task)
        return ((self._artifact.manifest.forms[FOLDED].graphs[task], engine),)

    def _load(self, task: str) -> Engine:
        with self._lock:  # two first calls of one task load one engine
            graph = self._graphs.get(task)
            if task not in self._engines:
                self._artifact.checked_info(task)
                engine = load_engine(self._artifact, graph, self._options)
                self._engines = {**self._engines, task: engine}
            return self._engines[task]

    def add(self, pack: TaskPack) -> None:
        """Always an error: a folded graph is made by export."""
        raise folded_task(pack.task)

    def remove(self, task: str) -> None:
        """Forgets the task; its engine goes when the last running call ends."""
        with self._lock:
            self._graphs.remove(task)
            self._engines = {name: engine for name, engine in self._engines.items() if name != task}


def folded_task(task: str) -> TaskError:
    """The error for adding a task to folded graphs."""
    return TaskError(
        f"task {task!r} cannot be added: folded graphs are made by export; "
        "export the bundle with it again, or open form switchable"
    )
