"""A row has a value."""

from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from propetl.problems.problem import Problem

if TYPE_CHECKING:
    from torch import Tensor

    from propetl.data.columns import Cells
    from propetl.data.table import Table
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.rows import Text
    from propetl.task import TaskSpec


class Regression(Problem):
    """A head gives the value."""

    name = "regression"
    metrics = ("pearson", "spearman")
    names_labels = False
    label_type = np.float32
    problem_type = "regression"

    def described(self, task: "TaskSpec") -> str:
        """It has no classes to count."""
        return self.name

    def prediction(self, task: "TaskSpec", answer: Any, text: "Text" = "") -> "Prediction":
        """The value as it is."""
        from propetl.runtime.prediction import Prediction

        return Prediction(None, float(answer[0]), {})

    def read_label(self, table: "Table", row: "Cells", known: Sequence[str]) -> float:
        """A finite number."""
        from propetl.data.cell_values import number_in

        return number_in(table, row, known)

    def given_label(self, task: "TaskSpec", texts: tuple[str, ...], label: Any, where: str) -> float:
        """A finite number."""
        from propetl.data.in_memory import value_given

        return value_given(task, label, where)

    def summed_loss(self, logits: "Tensor", labels: "Tensor", smoothing: float) -> "Tensor":
        """Squared error, which nothing is spread over."""
        from torch.nn import functional

        return functional.mse_loss(logits.squeeze(-1), labels.to(logits.dtype), reduction="sum")


REGRESSION = Regression()
