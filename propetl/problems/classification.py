"""A row is of one of several classes."""

import numpy as np

from propetl.problems.problem import Problem


class Classification(Problem):
    """A head gives a logit for each class."""

    name = "classification"
    metrics = ("accuracy", "f1", "matthews")
    label_type = np.int64
    problem_type = "single_label_classification"


CLASSIFICATION = Classification()
