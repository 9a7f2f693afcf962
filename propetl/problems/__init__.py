"""The kinds of problem: an object each, which says everything that differs between them.

Loads no torch: a device imports it with every task that it reads.
"""

from propetl.problems.classification import Classification
from propetl.problems.problem import Problem
from propetl.problems.regression import Regression
from propetl.problems.tagging import Tagging
from propetl.problems.text import Text

__all__ = ["PROBLEMS", "Problem"]

PROBLEMS: dict[str, Problem] = {
    "classification": Classification(),
    "regression": Regression(),
    "tagging": Tagging(),
    "text": Text(),
}
"""Every kind by the name that configurations, bundles and artifacts give it."""
