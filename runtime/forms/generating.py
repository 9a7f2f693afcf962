"""The forms of a backbone that generates: several engines work together, a task is the same as elsewhere."""

import threading
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

import numpy as np

from propetl.bundle.format import TaskInfo
from propetl.bundle.pack import TaskPack
from propetl.errors import BackendError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, KeepingEngine, Prepared, load_engine
from propetl.runtime.forms import BoundTask, Feeds, Generate, GeneratingTask, Logits, taken_task, unknown_task
from propetl.runtime.forms.bank import fixed_task
from propetl.runtime.forms.folded import folded_task
from propetl.runtime.generation.cached_steps import EncoderDecoderSteps
from propetl.runtime.generation.decoder_steps import DecoderSteps
from propetl.runtime.generation.generate import OnTokens, generate
from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.generation.options import GenerationOptions
from propetl.runtime.generation.steps import Steps, Tokens
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import BANK, FORM_RULES, TASK_ID


@dataclass(frozen=True)
class _LoadedTask:
    """What a task adds to the engines: nothing where they hold it, its tensors, or its row in the bank."""

    info: TaskInfo
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
        self._engines: dict[str | None, dict[str, KeepingEngine]] = {}
        if not self._rule.graph_per_task:
            self._engines[None] = self._loaded_engines(None)
        # Never changed in place: a call reads this reference once and keeps what it found.
        self._tasks = {name: self._loaded(name) for name in self._names()}

    def _names(self) -> tuple[str, ...]:
        info = self._artifact.manifest.forms[self._form]
        return info.own_tasks() or tuple(info.task_ids) or tuple(self._artifact.manifest.tasks)

    def _loaded(self, task: str) -> _LoadedTask:
        info = self._artifact.task(task).info
        if self._rule.extra_inputs == "task tensors":
            return self._with_tensors(self._artifact.pack(task))
        if self._rule.extra_inputs == "task_id":
            return _LoadedTask(info, by_row={TASK_ID: self._artifact.manifest.forms[self._form].task_ids[task]})
        return _LoadedTask(info)

    def _with_tensors(self, pack: TaskPack) -> _LoadedTask:
        engine = next(iter(self._engines[None].values()))
        return _LoadedTask(pack.info, engine.prepare(pack.tensors()))

    def _loaded_engines(self, task: str | None) -> dict[str, KeepingEngine]:
        graphs = self._artifact.manifest.forms[self._form].graphs_for(task)
        return {part: self._load(graph) for part, graph in graphs.items()}

    def _load(self, graph: GraphInfo) -> KeepingEngine:
        engine = load_engine(self._artifact, graph, self._options)
        if not isinstance(engine, KeepingEngine):
            raise BackendError(f"provider {self._options.provider!r} cannot keep a cache, and so not generate; use cpu")
        return engine

    @property
    def _steps(self) -> type[EncoderDecoderSteps] | type[DecoderSteps]:
        return DecoderSteps if self._generation.kind == "decoder" else EncoderDecoderSteps

    @property
    def _generation(self) -> GenerationInfo:
        info = self._artifact.manifest.generation
        assert info is not None
        return info

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""
        return tuple(self._tasks)

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The engines of ``task``, loaded if they were not used before."""
        form = self._artifact.manifest.forms[self._form]
        graphs = form.graphs_for(task if self._rule.graph_per_task else None)
        return tuple((graphs[part], engine) for part, engine in self._engines_of(task).items())

    def _engines_of(self, task: str) -> Mapping[str, KeepingEngine]:
        self._task(task)
        key = task if self._rule.graph_per_task else None
        with self._lock:  # two first calls of one task load its engines once
            if key not in self._engines:
                self._engines = {**self._engines, key: self._loaded_engines(key)}
            return self._engines[key]

    def bind(self, task: str) -> GeneratingTask:
        """``task`` with its engines, and the tensors that it has now."""
        loaded, engines = self._task(task), self._engines_of(task)

        def start(feeds: Feeds) -> Steps:
            rows = len(feeds["input_ids"])
            by_row = {name: np.full(rows, value, dtype=np.int64) for name, value in loaded.by_row.items()}
            return self._steps(engines, self._generation, feeds, by_row, loaded.tensors)

        return GeneratingTask(task, loaded.info, lambda feeds: start(feeds).first(), self._generate(start))

    def _generate(self, start: Callable[[Feeds], Steps]) -> Generate:
        special = self._generation.special

        def run(
            feeds: Feeds,
            options: GenerationOptions,
            places: Tokens | None = None,
            on_tokens: OnTokens | None = None,
        ) -> list[Tokens]:
            return generate(start(feeds), options, special, places, on_tokens)

        return run

    def _task(self, task: str) -> _LoadedTask:
        tasks = self._tasks
        if task not in tasks:
            raise unknown_task(task, tuple(tasks))
        return tasks[task]

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked; :class:`TaskError` but in form switchable."""
        if self._rule.extra_inputs != "task tensors":
            raise folded_task(pack.task) if self._rule.graph_per_task else fixed_task(pack.task, "added")
        loaded = self._with_tensors(pack)
        with self._lock:
            if pack.task in self._tasks:
                raise taken_task(pack.task)
            self._tasks = {**self._tasks, pack.task: loaded}

    def remove(self, task: str) -> None:
        """Forgets a task; running calls end with it. :class:`TaskError` in form bank."""
        self._task(task)
        if self._rule.extra_inputs == "task_id":
            raise fixed_task(task, "removed")
        with self._lock:
            self._tasks = {name: loaded for name, loaded in self._tasks.items() if name != task}
            self._engines = {name: engines for name, engines in self._engines.items() if name != task}


class GeneratingBank(GeneratingForm):
    """A batch may mix tasks."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        super().__init__(artifact, BANK, options)

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits ``[vocabulary]`` of each row's first token; ``tasks`` has one entry for each row."""
        return list(self._start_mixed(tasks, feeds).first())

    def generate_mixed(
        self, tasks: Sequence[BoundTask], feeds: Feeds, options: GenerationOptions, places: Tokens
    ) -> list[Tokens]:
        """Generates for rows that each have a task of their own, all in the same way."""
        return generate(self._start_mixed(tasks, feeds), options, self._generation.special, places)

    def _start_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> Steps:
        task_ids = [self._task(task.name).by_row[TASK_ID] for task in tasks]
        by_row = {TASK_ID: np.array(task_ids, dtype=np.int64)}
        return self._steps(self._engines_of(tasks[0].name), self._generation, feeds, by_row, {})


def generating_form(artifact: Artifact, form: str, options: EngineOptions) -> GeneratingForm:
    """Loads ``form`` of an artifact that generates."""
    return GeneratingBank(artifact, options) if form == BANK else GeneratingForm(artifact, form, options)
