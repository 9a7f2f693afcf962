"""A kind of problem: everything in which classification, regression, tagging and text generation differ.

A kind is one object, registered by name in :data:`propetl.problems.PROBLEMS`. The rest of the project asks it and never
what kind it is. The base classes answer for a head that reads one token of a row; a kind overrides where it differs.

Modules of this package load no torch. A method that needs more than a device has imports it in its body.
"""

from propetl.problems.answering import Where
from propetl.problems.exporting import Exporting

__all__ = ["Problem", "Where"]


class Problem(Exporting):
    """One kind of problem: how it answers on a device, learns from rows, and is exported."""
