"""What the graphs of a generation take for its tasks, besides tokens and cache."""

from collections.abc import Mapping
from dataclasses import dataclass, field, replace

import numpy as np
from numpy.typing import NDArray

from propetl.runtime.engines import KeepingEngine, Prepared
from propetl.runtime.generation.steps import Tokens


@dataclass(frozen=True)
class TaskInputs:
    """The task's share in every call.

    Attributes:
        taken: by part, names that its graph takes; what else stands below is not for it.
        by_row: for each row, such as ``task_id``, int64 ``[rows]``.
        alike: for all rows alike, such as a task's masks, or the weights that they select.
        of_rows: for each row, on the engine, such as the weights of its task: ``[rows, ...]``.
    """

    taken: Mapping[str, frozenset[str]]
    by_row: Mapping[str, NDArray[np.int64]] = field(default_factory=dict)
    alike: Prepared = field(default_factory=dict)
    of_rows: Prepared = field(default_factory=dict)

    def prepared(self, part: str) -> Prepared:
        """What the graph of ``part`` takes that is on the engine."""
        taken = self.taken[part]
        return {name: value for name, value in {**self.alike, **self.of_rows}.items() if name in taken}

    def picked(self, engine: KeepingEngine, rows: Tokens) -> "TaskInputs":
        """The same for the rows at these places."""
        by_row = {name: value[rows] for name, value in self.by_row.items()}
        of_rows = engine.pick(self.of_rows, rows) if self.of_rows else {}
        return replace(self, by_row=by_row, of_rows=of_rows)
