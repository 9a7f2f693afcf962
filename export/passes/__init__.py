"""Graph passes: one file, one class, one idea each. Each says what it requires and what it ensures.

The base classes are onnx_ir's; :func:`run_passes` runs them in order and keeps a record for ``propetl export -v``.
"""

import time
from collections.abc import Sequence
from dataclasses import dataclass

import onnx_ir as ir


@dataclass(frozen=True)
class PassRecord:
    """What one pass did.

    Attributes:
        name: class of the pass.
        modified: whether the graph changed.
        nodes_before: operators before it ran.
        nodes_after: operators after.
        seconds: wall time.
    """

    name: str
    modified: bool
    nodes_before: int
    nodes_after: int
    seconds: float

    def __str__(self) -> str:
        change = f"{self.nodes_before} → {self.nodes_after} nodes" if self.modified else "nothing to do"
        return f"{self.name}: {change} ({self.seconds:.2f} s)"


def run_passes(model: ir.Model, passes: Sequence[ir.passes.PassBase]) -> tuple[PassRecord, ...]:
    """Runs in-place ``passes`` on ``model``; a condition that fails raises onnx_ir's error, which is a bug here."""
    return tuple(_run(model, one) for one in passes)


def _run(model: ir.Model, one: ir.passes.PassBase) -> PassRecord:
    before, start = len(model.graph), time.perf_counter()
    modified = one(model).modified
    return PassRecord(type(one).__name__, modified, before, len(model.graph), time.perf_counter() - start)
