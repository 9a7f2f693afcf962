"""A row is of one of several classes."""

from propetl.problems.problem import Problem


class Classification(Problem):
    """A head gives a logit for each class."""

    name = "classification"
