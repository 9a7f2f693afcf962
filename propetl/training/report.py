"""The end of a run: a table for people, ``train.json`` for machines."""

from collections.abc import Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from propetl.bundle import Bundle
from propetl.inspection import Storage, storage_of
from propetl.training.result import RunResult


def report_json(result: RunResult, conditions: Mapping[str, Any], bundle: Bundle) -> dict[str, Any]:
    """What ``train.json`` holds."""
    storage = storage_of(bundle)
    return {
        "bundle": _bundle_path(result),
        "scores": result.scores,
        "average": result.average,
        "steps": result.steps,
        "best_step": result.best_step,
        "storage": {
            "prototype_bits": storage.prototype,
            "layer_mask_bits": storage.layer_masks,
            "language_mask_bits": storage.languages,
            "backbone_bits": storage.backbone,
            "tasks": {
                task: {"bits": storage.tasks[task].bits, "head_bits": storage.tasks[task].head}
                for task in result.scores
            },
        },
        "conditions": dict(conditions),
    }


def _bundle_path(result: RunResult) -> str:
    """Relative to the run folder if it is in there, so that the folder may be moved."""
    inside = result.bundle.is_relative_to(result.output)
    return (result.bundle.relative_to(result.output) if inside else result.bundle.absolute()).as_posix()


def print_report(console: Console, result: RunResult, bundle: Bundle) -> None:
    """Metric, bits and share of the backbone per task; heads apart, what tasks share once."""
    storage = storage_of(bundle)
    table = Table(title=f"best of {result.steps} steps: step {result.best_step}")
    table.add_column("task")
    table.add_column("score")
    for heading in ("bits", "of backbone", "head bits"):
        table.add_column(heading, justify="right")
    for task, scores in result.scores.items():
        table.add_row(task, _scores(scores), *_storage_cells(storage, task))
    if storage.shared:
        table.add_section()
    for name, bits in storage.shared.items():
        table.add_row(f"{name}, once", "", f"{bits:,}", _percent(storage.share(bits)), "")
    console.print(table)
    console.print(f"bundle: {result.bundle}", soft_wrap=True)


def _storage_cells(storage: Storage, task: str) -> tuple[str, str, str]:
    of_task = storage.tasks[task]
    return f"{of_task.bits:,}", _percent(storage.share(of_task.bits)), f"{of_task.head:,}"


def _scores(scores: Mapping[str, float]) -> str:
    return "\n".join(f"{metric} {value:.4f}" for metric, value in scores.items())


def _percent(share: float) -> str:
    return f"{100 * share:.3f}%"
