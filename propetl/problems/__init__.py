"""The kinds of problem: an object each, which says everything that differs between them.

Loads no torch: a device imports it with every task that it reads.
"""

from propetl.problems.classification import CLASSIFICATION
from propetl.problems.problem import Problem, Where
from propetl.problems.regression import REGRESSION
from propetl.problems.tagging import TAGGING
from propetl.problems.text import TEXT

__all__ = ["PROBLEMS", "Problem", "Where"]

PROBLEMS: dict[str, Problem] = {
    "classification": CLASSIFICATION,
    "regression": REGRESSION,
    "tagging": TAGGING,
    "text": TEXT,
}
"""Every kind by the name that configurations, bundles and artifacts give it."""
