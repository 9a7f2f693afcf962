"""Switchable: one engine; a task is a handful of small tensors that are fed with each call."""

from dataclasses import dataclass

from propetl.bundle.pack import TaskPack
from propetl.errors import ArtifactError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, Prepared, load_engine
from propetl.runtime.forms import BoundTask, Feeds, Logits
from propetl.runtime.forms.answers import answers_of
from propetl.runtime.forms.task_table import TaskTable
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import SWITCHABLE
from propetl.task import TaskSpec


@dataclass(frozen=True)
class _LoadedTask:
    info: TaskSpec
    tensors: Prepared


class SwitchableForm:
    """Any task over one engine, also one that was trained after export."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        graph = artifact.manifest.forms[SWITCHABLE].graph
        if graph is None:
            raise ArtifactError(f"{artifact.path}: form {SWITCHABLE} has no graph; export it again")
        self._graph = graph
        self._family = artifact.manifest.backbone.family
        self._engine = load_engine(artifact, graph, options)
        self._tasks = TaskTable({name: self._loaded(artifact.pack(name)) for name in artifact.manifest.tasks})

    def _loaded(self, pack: TaskPack) -> _LoadedTask:
        return _LoadedTask(pack.info, self._engine.prepare(pack.tensors()))

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._tasks.names()

    def bind(self, task: str) -> BoundTask:
        """``task`` with the tensors that it has now."""
        loaded = self._tasks.get(task)

        def infer(feeds: Feeds) -> Logits:
            return answers_of(self._engine.run(feeds, loaded.tensors), loaded.info, feeds, self._family)

        return BoundTask(task, loaded.info, infer)

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The one engine, which runs any task that is here."""
        self.bind(task)
        return ((self._graph, self._engine),)

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked; the engine stays as it is."""
        self._tasks.add(pack.task, self._loaded(pack))

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it."""
        self._tasks.remove(task)
