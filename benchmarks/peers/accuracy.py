"""What each method scores on real tasks, and what quantising loses: measured by other scripts, read here."""

import json
from pathlib import Path
from statistics import mean


def mean_scores(results: Path) -> dict[str, float]:
    """Mean over tasks and seeds of the main metric × 100, by method; empty where ``real_run.json`` is not there."""
    path = results / "real_run.json"
    methods = json.loads(path.read_text())["methods"] if path.exists() else {}
    return {name: 100 * mean(map(_main, method["scores"].values())) for name, method in methods.items()}


def _main(metrics: dict[str, dict[str, float]]) -> float:
    """Mean over seeds of a task's first metric, which is its main one."""
    return mean(next(iter(metrics.values())).values())


def lost_points(results: Path) -> dict[str, float]:
    """Mean over tasks of the points that quantising costs: ours by precision, and ``optimum-int8``."""
    lost: dict[str, float] = {}
    for name in ("real_run.json", "peers_int8.json"):
        path = results / name
        for method in json.loads(path.read_text())["methods"].values() if path.exists() else ():
            lost |= {precision: _mean_loss(losses) for precision, losses in method["quantised"].items()}
    return lost


def _mean_loss(losses: list[dict[str, float]]) -> float:
    return 100 * mean(loss["reference"] - loss["quantised"] for loss in losses)
