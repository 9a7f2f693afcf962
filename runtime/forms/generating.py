"""The forms of a backbone that generates: several engines work together, a task is the same as elsewhere."""

import threading
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from propetl.bundle.pack import TaskPack
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, Prepared
from propetl.runtime.forms import BoundTask, Feeds, Logits
from propetl.runtime.forms.bank import fixed_task
from propetl.runtime.forms.folded import folded_task
from propetl.runtime.forms.part_engines import PartEngines
from propetl.runtime.forms.task_table import TaskTable
from propetl.runtime.forms.text_tasks import GeneratingTask
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.generation.steps import Tokens
from propetl.runtime.generation.task_inputs import TaskInputs
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import BANK, FORM_RULES, TASK_ID
from propetl.task import TaskSpec


@dataclass(frozen=True)
class _LoadedTask:
    """What a task adds to the engines: nothing where they hold it, its tensors, or its row in the bank."""

    info: TaskSpec
    tensors: Prepared = field(default_factory=dict)
    by_row: Mapping[str, int] = field(default_factory=dict)


class GeneratingForm:
    """Folded or switchable, or one task of a bank at a time."""

    def __init__(self, artifact: Artifact, form: str, options: EngineOptions) -> None:
        self._artifact = artifact
        self._form = form
        self._options = options
        self._rule = FORM_RULES[form]
        self._lock = threading.Lock()
        self._engines: dict[str | None, PartEngines] = {}
        if not self._rule.graph_per_task:
            self._engines[None] = self._loaded_engines(None)
        self._tasks = TaskTable({name: self._loaded(name) for name in self._names()})

    def _names(self) -> tuple[str, ...]:
        info = self._artifact.manifest.forms[self._form]
        return info.own_tasks() or tuple(info.task_ids) or tuple(self._artifact.manifest.tasks)

    def _loaded(self, task: str) -> _LoadedTask:
        if self._rule.extra_inputs == "task tensors":
            return self._with_tensors(self._artifact.pack(task))
        info = self._artifact.checked_info(task)
        if self._rule.extra_inputs == "task_id":
            return _LoadedTask(info, by_row={TASK_ID: self._artifact.manifest.forms[self._form].task_ids[task]})
        return _LoadedTask(info)

    def _with_tensors(self, pack: TaskPack) -> _LoadedTask:
        return _LoadedTask(pack.info, self._engines[None].any.prepare(pack.tensors()))

    def _loaded_engines(self, task: str | None) -> PartEngines:
        graphs = self._artifact.manifest.forms[self._form].graphs_for(task)
        return PartEngines(self._artifact, graphs, self._options)

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return self._tasks.names()

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The engines of ``task``, loaded if they were not used before."""
        return self._engines_of(task).with_graphs

    def _engines_of(self, task: str) -> PartEngines:
        key = task if self._rule.graph_per_task else None
        with self._lock:  # two first calls of one task load its engines once, and none those of a removed one
            self._tasks.get(task)
            if key not in self._engines:
                self._engines = {**self._engines, key: self._loaded_engines(key)}
            return self._engines[key]

    def bind(self, task: str) -> GeneratingTask:
        """``task`` with its engines, and the tensors that it has now."""
        loaded, engines = self._tasks.get(task), self._engines_of(task)

        def inputs(rows: int) -> TaskInputs:
            by_row = {name: np.full(rows, value, dtype=np.int64) for name, value in loaded.by_row.items()}
            return TaskInputs(engines.taken, by_row, loaded.tensors)

        return engines.bound(task, loaded.info, inputs)

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked; :class:`TaskError` but in form switchable."""
        if self._rule.extra_inputs != "task tensors":
            raise folded_task(pack.task) if self._rule.graph_per_task else fixed_task(pack.task, "added")
        self._tasks.add(pack.task, self._with_tensors(pack))

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it. :class:`TaskError` in form bank."""
        self._tasks.get(task)
        if self._rule.extra_inputs == "task_id":
            raise fixed_task(task, "removed")
        with self._lock:
            self._tasks.remove(task)
            self._engines = {name: engines for name, engines in self._engines.items() if name != task}


class GeneratingBank(GeneratingForm):
    """A batch may mix tasks."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, BANK, options)

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits ``[vocabulary]`` of each row's first token; ``tasks`` has one entry for each row."""
        return list(self._engines[None].start(feeds, self._inputs(tasks)).first())

    def generate_mixed(
        self, tasks: Sequence[BoundTask], feeds: Feeds, options: GenerationOptions, places: Tokens
    ) -> list[Tokens]:
        """Generates for rows that each have a task of their own, all in the same way."""
        return self._engines[None].generate(feeds, self._inputs(tasks), options, places)

    def _inputs(self, tasks: Sequence[BoundTask]) -> TaskInputs:
        task_ids = [self._tasks.get(task.name).by_row[TASK_ID] for task in tasks]
        return TaskInputs(self._engines[None].taken, {TASK_ID: np.array(task_ids, dtype=np.int64)})


def generating_form(artifact: Artifact, form: str, options: EngineOptions) -> GeneratingForm:
    """Loads the graphs of ``form`` of an artifact that generates."""
    return GeneratingBank(artifact, options) if form == BANK else GeneratingForm(artifact, form, options)
