"""Bank: one engine that holds the masks of all tasks; each row of a batch says which one it wants."""

from collections.abc import Sequence
from functools import partial

import numpy as np

from propetl.bundle.pack import TaskPack
from propetl.errors import ArtifactError, TaskError
from propetl.runtime.artifact import Artifact
from propetl.runtime.engines import Engine, EngineOptions, load_engine
from propetl.runtime.forms import BoundTask, Feeds, Logits
from propetl.runtime.forms.answers import answers_by_row, answers_of
from propetl.runtime.forms.task_table import TaskTable
from propetl.runtime.manifest import GraphInfo
from propetl.runtime.signatures import BANK, TASK_ID
from propetl.task import TaskSpec


class BankForm:
    """A batch may mix tasks."""

    def __init__(self, artifact: Artifact, options: EngineOptions) -> None:
        form = artifact.manifest.forms[BANK]
        if form.graph is None:
            raise ArtifactError(f"{artifact.path}: form {BANK} has no graph; export it again")
        self._artifact = artifact
        self._task_ids = TaskTable(form.task_ids)
        self._infos: dict[str, TaskSpec] = {}
        self._graph = form.graph
        self._engine = load_engine(artifact, form.graph, options)

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks in the bank."""
        return self._task_ids.names()

    def bind(self, task: str) -> BoundTask:
        """``task`` as its row of the bank."""
        task_id = self._task_ids.get(task)
        info = self._infos.get(task) or self._checked_info(task)
        return BoundTask(task, info, partial(self._infer, task_id, info))

    def _checked_info(self, task: str) -> TaskSpec:
        """Held against the task's pack when it is first asked for: a bank may have a thousand."""
        self._infos[task] = info = self._artifact.checked_info(task)
        return info

    def _infer(self, task_id: int, info: TaskSpec, feeds: Feeds) -> Logits:
        rows = len(feeds["input_ids"])
        padded = self._padded_logits(np.full(rows, task_id, dtype=np.int64), feeds)
        return answers_of(padded, info, feeds, self._artifact.manifest.backbone.family)

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits of each row as its task gives them; ``tasks`` has one entry for each row."""
        task_ids = np.array([self._task_ids.get(task.name) for task in tasks], dtype=np.int64)
        padded = self._padded_logits(task_ids, feeds)
        return answers_by_row(padded, [task.info for task in tasks], feeds, self._artifact.manifest.backbone.family)

    def _padded_logits(self, task_ids: np.ndarray[tuple[int], np.dtype[np.int64]], feeds: Feeds) -> Logits:
        return self._engine.run({**feeds, TASK_ID: task_ids}, {})  # [batch, (sequence,) widest head]

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The one engine, which runs any task that is here."""
        self.bind(task)
        return ((self._graph, self._engine),)

    def add(self, pack: TaskPack) -> None:
        """Always an error: the bank is a constant of its graph."""
        raise fixed_task(pack.task, "added")

    def remove(self, task: str) -> None:
        """Always an error: the bank is a constant of its graph."""
        self.bind(task)
        raise fixed_task(task, "removed")


def fixed_task(task: str, how: str) -> TaskError:
    """The error for a change to a bank; ``how`` says which."""
    return TaskError(
        f"task {task!r} cannot be {how}: the bank is a constant of its graph; "
        "export the bundle again, or open form switchable"
    )
