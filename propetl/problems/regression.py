"""A row has a value."""

from typing import TYPE_CHECKING, Any

from propetl.problems.problem import Problem

if TYPE_CHECKING:
    from propetl.bundle.format import TaskInfo
    from propetl.runtime.prediction import Prediction
    from propetl.runtime.rows import Text


class Regression(Problem):
    """A head gives the value."""

    name = "regression"

    def described(self, task: "TaskInfo") -> str:
        """It has no classes to count."""
        return self.name

    def prediction(self, task: "TaskInfo", answer: Any, text: "Text" = "") -> "Prediction":
        """The value as it is."""
        from propetl.runtime.prediction import Prediction

        return Prediction(None, float(answer[0]), {})
