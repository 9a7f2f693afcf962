"""What running a form means. One file for each form; a session knows only the interface."""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol, runtime_checkable

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.pack import TaskPack
from propetl.runtime.engines import Engine
from propetl.runtime.manifest import GraphInfo
from propetl.task import TaskSpec

Feeds = Mapping[str, NDArray[np.int64]]
Logits = NDArray[np.float32]


@dataclass(frozen=True)
class BoundTask:
    """One task as it was when a call began: what others add or remove meanwhile does not reach it.

    Attributes:
        name: of the task.
        info: problem, labels, columns.
        infer: logits ``[batch, outputs]`` for token inputs ``[batch, sequence]``; of a task that tags
            ``[batch, sequence, outputs]``; of a task that is answered in text, those of the first token,
            ``[batch, vocabulary]``.
    """

    name: str
    info: TaskSpec
    infer: Callable[[Feeds], Logits]


class RunningForm(Protocol):
    """An artifact's form with its engines. Calls may come from many threads at once."""

    def tasks(self) -> tuple[str, ...]:
        """Names of the tasks that can be run now."""

    def bind(self, task: str) -> BoundTask:
        """``task``, ready to run; an unknown one is a :class:`TaskError`."""

    def engines(self, task: str) -> tuple[tuple[GraphInfo, Engine], ...]:
        """The engines that run ``task``, each with its graph; they are loaded if they were not yet."""

    def add(self, pack: TaskPack) -> None:
        """Adds a task whose pack was checked; :class:`TaskError` if the form cannot, or the name is taken."""

    def remove(self, task: str) -> None:
        """Forgets a task; :class:`TaskError` where the form cannot, or has none of that name."""


@runtime_checkable
class MixingForm(RunningForm, Protocol):
    """A form that runs rows of several tasks in one batch."""

    def infer_mixed(self, tasks: Sequence[BoundTask], feeds: Feeds) -> list[Logits]:
        """Logits ``[outputs of its task]`` of each row, ``[sequence, outputs]`` where its task tags.

        ``tasks`` has one entry for each row.
        """
