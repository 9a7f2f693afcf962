"""Gathers what `real_run.py` left into one JSON file, one Markdown table and one plot.

python examples/real_run_report.py runs/real data/glue benchmarks/results
"""

import json
import statistics
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
from real_run import TASKS, VARIANTS, Variant

from propetl.data.metrics import compute
from propetl.data.tables import load_split
from propetl.data.tasks import TASKS as GLUE

Scores = dict[str, dict[str, list[float]]]

MAJORITY = "majority class (mean for stsb)"


def main() -> None:
    """Writes ``real_run.json``, ``real_run.md`` and ``real_run.png``."""
    runs, data, results = (Path(argument) for argument in sys.argv[1:4])
    results.mkdir(parents=True, exist_ok=True)
    methods = {variant.title: _method(variant, runs) for variant in VARIANTS if _folders(variant, runs)}
    report = {"baseline": {MAJORITY: _majority(data)}, "methods": methods}
    (results / "real_run.json").write_text(json.dumps(report, indent=2) + "\n")
    table = _table(report)
    (results / "real_run.md").write_text(table)
    _plot(report, results / "real_run.png")
    print(table)


def _folders(variant: Variant, runs: Path) -> list[Path]:
    return sorted(runs.glob(f"{variant.name}-seed*/"))


def _method(variant: Variant, runs: Path) -> dict[str, Any]:
    """Scores over seeds, storage, and what validation found, of one method."""
    reports = [report for folder in _folders(variant, runs) for report in _reports(variant, folder)]
    validations = [
        json.loads(path.read_text()) for path in sorted(runs.glob(f"{variant.name}-seed*/validation-*.json"))
    ]
    comparisons = [
        _portable(item) for report in validations for item in report["comparisons"] if item["metrics_reference"]
    ]
    storage = [report["storage"] for report in reports]
    return {
        "scores": _gathered(reports),
        "prototype_bits": sum(item["prototype_bits"] for item in storage) // len(_folders(variant, runs)),
        "tasks": {task: bits for item in storage for task, bits in item["tasks"].items()},
        "backbone_bits": storage[0]["backbone_bits"],
        "prototype": variant.prototype,
        "learning_rate": variant.learning_rate,
        "score_learning_rate": variant.score_learning_rate,
        "steps": [report["steps"] for report in reports],
        "conditions": [_without_paths(report["conditions"]) for report in reports],
        "validation": comparisons,
    }


def _reports(variant: Variant, folder: Path) -> Iterator[dict[str, Any]]:
    parts = [folder / task for task in variant.tasks] if variant.separate else [folder]
    for part in parts:
        yield json.loads((part / "train.json").read_text())


def _gathered(reports: list[dict[str, Any]]) -> Scores:
    scores: Scores = {}
    for report in reports:
        for task, metrics in report["scores"].items():
            for name, value in metrics.items():
                scores.setdefault(task, {}).setdefault(name, []).append(value)
    return scores


def _portable(comparison: dict[str, Any]) -> dict[str, Any]:
    keys = ("task", "form", "batching", "rows", "max_abs", "max_rel", "agreement", "passed")
    return {key: comparison[key] for key in (*keys, "metrics_reference", "metrics_artifact")}


def _without_paths(conditions: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in conditions.items() if key != "sources"}


def _majority(data: Path) -> Scores:
    """What always answering the commonest training label, or the mean, scores on the development rows."""
    scores: Scores = {}
    for task in TASKS:
        train, dev = (load_split(GLUE[task], data, split) for split in ("train", "dev"))
        if GLUE[task].problem == "regression":
            answers = np.full(len(dev), train.labels.mean())
        else:
            answers = np.full(len(dev), np.bincount(train.labels).argmax())
        scores[task] = {name: [value] for name, value in compute(GLUE[task].metrics, answers, dev.labels).items()}
    return scores


def _table(report: dict[str, Any]) -> str:
    """Main metric per task, mean and deviation over seeds, and bits."""
    lines = [
        "| method | "
        + " | ".join(f"{task} ({GLUE[task].metric})" for task in TASKS)
        + " | bits per task | head bits | shared bits |",
        "|---|" + "---|" * (len(TASKS) + 3),
    ]
    rows = {
        **{title: {"scores": scores} for title, scores in report["baseline"].items()},
        **report["methods"],
    }
    for title, method in rows.items():
        cells = [_cell(method["scores"].get(task, {}).get(GLUE[task].metric, [])) for task in TASKS]
        lines.append(f"| {title} | " + " | ".join([*cells, *_bits(method)]) + " |")
    return "\n".join(lines) + "\n"


def _cell(values: list[float]) -> str:
    if not values:
        return "–"
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def _bits(method: dict[str, Any]) -> list[str]:
    if "tasks" not in method:
        return ["0", "0", "0"]
    tasks = method["tasks"].values()
    own, head = max(item["bits"] for item in tasks), max(item["head_bits"] for item in tasks)
    return [f"{own:,}", f"{head:,}", f"{method['prototype_bits']:,}"]


def _plot(report: dict[str, Any], path: Path) -> None:
    """Score of each method by task, in the order of the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods = {
        **{title: {"scores": scores} for title, scores in report["baseline"].items()},
        **report["methods"],
    }
    figure, axes = pyplot.subplots(figsize=(9, 4.5), layout="constrained")
    width = 0.8 / len(methods)
    for place, (title, method) in enumerate(methods.items()):
        present = [
            (index, method["scores"][task][GLUE[task].metric])
            for index, task in enumerate(TASKS)
            if task in method["scores"]
        ]
        middle = [index + (place - (len(methods) - 1) / 2) * width for index, _ in present]
        axes.bar(middle, [100 * statistics.mean(values) for _, values in present], width, label=title)
    axes.set_xticks(range(len(TASKS)), [f"{task}\n{GLUE[task].metric}" for task in TASKS])
    axes.set_ylabel("score on GLUE dev (× 100)")
    figure.legend(loc="outside upper center", fontsize=8, ncols=4)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
