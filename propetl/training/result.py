"""What a run hands back."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

Scores = dict[str, dict[str, float]]


@dataclass(frozen=True)
class RunResult:
    """One finished run.

    Attributes:
        output: its folder.
        bundle: where the bundle stands.
        scores: metrics on the development rows by task, at the best step.
        average: mean of the tasks' main metrics.
        steps: optimizer steps done.
        best_step: step that the bundle is of.
        finished_before: whether the run had ended already and nothing was done.
    """

    output: Path
    bundle: Path
    scores: Scores
    average: float
    steps: int
    best_step: int
    finished_before: bool = False


def result_from_report(output: Path, report: dict[str, Any]) -> RunResult:
    """The result of a run that had ended before, from its ``train.json``."""
    return RunResult(
        output=output,
        bundle=output / report["bundle"],
        scores=report["scores"],
        average=report["average"],
        steps=report["steps"],
        best_step=report["best_step"],
        finished_before=True,
    )
