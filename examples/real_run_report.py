"""Gathers what `real_run.py` left into one JSON file, one Markdown table and one plot.

python examples/real_run_report.py runs/real data/glue benchmarks/results
"""

import json
import statistics
import sys
from pathlib import Path
from typing import Any

import numpy as np
from real_run import TASKS, VARIANTS, Variant

from propetl.data.metrics import compute
from propetl.data.tables import load_split
from propetl.data.tasks import TASKS as GLUE

Scores = dict[str, dict[str, dict[str, float]]]
"""By task, metric and seed."""

MAJORITY = "majority class (mean for stsb)"


def main() -> None:
    """Writes ``real_run.json``, ``real_run.md`` and ``real_run.png``."""
    runs, data, results = (Path(argument) for argument in sys.argv[1:4])
    results.mkdir(parents=True, exist_ok=True)
    methods = {variant.title: _method(variant, runs) for variant in VARIANTS if _reports(variant, runs)}
    if not methods:
        sys.exit(f"no finished run in {runs}: examples/real_run.py makes them")
    tasks = [task for task in TASKS if any(task in method["scores"] for method in methods.values())]
    report = {"tasks": tasks, "baseline": {MAJORITY: {"scores": _majority(tasks, data)}}, "methods": methods}
    (results / "real_run.json").write_text(json.dumps(report, indent=2) + "\n")
    table = _table(report) + _quantised_table(report)
    (results / "real_run.md").write_text(table)
    _plot(report, results / "real_run.png")
    print(table)


def _reports(variant: Variant, runs: Path) -> list[dict[str, Any]]:
    """Of the finished runs of a method, all seeds."""
    places = "train.json" if variant.together else "*/train.json"
    found = sorted(runs.glob(f"{variant.name}-seed*/{places}"))
    return [{**json.loads(path.read_text()), "seed": _seed(path, runs)} for path in found]


def _seed(path: Path, runs: Path) -> int:
    return int(path.relative_to(runs).parts[0].rpartition("-seed")[2])


def _method(variant: Variant, runs: Path) -> dict[str, Any]:
    """Scores by seed, storage, and what validation found, of one method."""
    reports = _reports(variant, runs)
    validations = [json.loads(path.read_text()) for path in sorted(runs.glob(f"{variant.name}-seed*/validation.json"))]
    return {
        "scores": _gathered(reports),
        "storage": _storage([report["storage"] for report in reports], variant.together),
        "prototype": variant.prototype,
        "learning_rate": variant.learning_rate,
        "score_learning_rate": variant.score_learning_rate,
        "steps": sorted({report["steps"] for report in reports}),
        "conditions": [{"seed": report["seed"], **_without_paths(report["conditions"])} for report in reports],
        "quantised": {
            artifact.name.removeprefix("artifact-"): json.loads((artifact / "artifact.json").read_text())["losses"]
            for artifact in sorted(runs.glob(f"{variant.name}-seed*/artifact-*"))
        },
        "validation": [
            _portable(item) for report in validations for item in report["comparisons"] if item["metrics_reference"]
        ],
    }


def _gathered(reports: list[dict[str, Any]]) -> Scores:
    """Score of each seed, by task and metric."""
    scores: Scores = {}
    for report in reports:
        for task, metrics in report["scores"].items():
            for name, value in metrics.items():
                scores.setdefault(task, {}).setdefault(name, {})[str(report["seed"])] = value
    return scores


def _storage(reports: list[dict[str, Any]], together: bool) -> dict[str, Any]:
    """Bits of one task, of its head, and of what its prototype's tasks share: the prototype and layer masks."""
    tasks = {task: bits for report in reports for task, bits in report["tasks"].items()}
    shared = reports[0]["prototype_bits"] + reports[0]["layer_mask_bits"]
    prototypes = 1 if together else len(tasks)
    heads, own = (sum(bits[key] for bits in tasks.values()) for key in ("head_bits", "bits"))
    return {
        "tasks": tasks,
        "shared_bits": shared,
        "prototypes": prototypes,
        "all_bits": shared * prototypes + own,
        "all_bits_with_heads": shared * prototypes + own + heads,
        "backbone_bits": reports[0]["backbone_bits"],
    }


def _portable(comparison: dict[str, Any]) -> dict[str, Any]:
    keys = ("task", "form", "batching", "rows", "max_abs", "max_rel", "agreement", "passed")
    return {key: comparison[key] for key in (*keys, "metrics_reference", "metrics_artifact")}


def _without_paths(conditions: dict[str, Any]) -> dict[str, Any]:
    return {key: value for key, value in conditions.items() if key != "sources"}


def _majority(tasks: list[str], data: Path) -> Scores:
    """What always answering the commonest training label, or the mean, scores on all development rows."""
    scores: Scores = {}
    for task in tasks:
        train, dev = (load_split(GLUE[task], data, split) for split in ("train", "dev"))
        if GLUE[task].problem == "regression":
            answers = np.full(len(dev), train.labels.mean())
        else:
            answers = np.full(len(dev), np.bincount(train.labels).argmax())
        found = compute(GLUE[task].metrics, answers, dev.labels)
        scores[task] = {name: {"any": value} for name, value in found.items()}
    return scores


def _table(report: dict[str, Any]) -> str:
    """Main metric per task, mean and deviation over seeds, and bits."""
    columns = [f"{task} ({GLUE[task].metric})" for task in report["tasks"]]
    bits = ["mean", "bits of a task", "shared bits", "bits of all tasks", "with heads"]
    lines = [
        f"| method | {' | '.join([*columns, *bits])} |",
        "|---|" + "---|" * (len(columns) + len(bits)),
    ]
    for title, method in {**report["baseline"], **report["methods"]}.items():
        scores = [_main_scores(method, task) for task in report["tasks"]]
        cells = [*map(_cell, scores), _cell(_means(scores)), *_bits(method)]
        lines.append(f"| {title} | {' | '.join(cells)} |")
    return "\n".join(lines) + "\n"


def _main_scores(method: dict[str, Any], task: str) -> dict[str, float]:
    """The task's main metric by seed; empty if it has not been trained."""
    found: dict[str, float] = method["scores"].get(task, {}).get(GLUE[task].metric, {})
    return found


def _means(scores: list[dict[str, float]]) -> dict[str, float]:
    """Mean over all tasks, of the seeds that trained them all."""
    seeds = set.intersection(*map(set, scores))
    return {seed: statistics.mean(found[seed] for found in scores) for seed in sorted(seeds)}


def _cell(by_seed: dict[str, float]) -> str:
    if not by_seed:
        return "–"
    values = list(by_seed.values())
    mean = f"{100 * statistics.mean(values):.2f}"
    return mean if len(values) == 1 else f"{mean} ± {100 * statistics.stdev(values):.2f}"


def _bits(method: dict[str, Any]) -> list[str]:
    if "storage" not in method:
        return ["0"] * 4
    storage = method["storage"]
    each = "" if storage["prototypes"] == 1 or not storage["shared_bits"] else " each"
    return [
        f"{max(item['bits'] for item in storage['tasks'].values()):,}",
        f"{storage['shared_bits']:,}{each}",
        f"{storage['all_bits']:,}",
        f"{storage['all_bits_with_heads']:,}",
    ]


def _quantised_table(report: dict[str, Any]) -> str:
    """Points of the main metric that each precision costs each task, on all development rows."""
    costs = [
        (title, precision, {loss["task"]: 100 * (loss["reference"] - loss["quantised"]) for loss in losses})
        for title, method in report["methods"].items()
        for precision, losses in method["quantised"].items()
    ]
    if not costs:
        return ""
    tasks = report["tasks"]
    lines = ["", f"| points lost | {' | '.join(tasks)} | mean |", "|---|" + "---|" * (len(tasks) + 1)]
    for title, precision, points in costs:
        cells = [f"{points[task]:.2f}" for task in tasks]
        lines.append(f"| {title}: {precision} | {' | '.join(cells)} | {statistics.mean(points.values()):.2f} |")
    return "\n".join(lines) + "\n"


def _plot(report: dict[str, Any], path: Path) -> None:
    """Score of each method by task, in the order of the table."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot

    methods, tasks = {**report["baseline"], **report["methods"]}, report["tasks"]
    figure, axes = pyplot.subplots(figsize=(11, 5), layout="constrained")
    width = 0.85 / len(methods)
    for place, (title, method) in enumerate(methods.items()):
        present = [(index, found) for index, task in enumerate(tasks) if (found := _main_scores(method, task))]
        middle = [index + (place - (len(methods) - 1) / 2) * width for index, _ in present]
        values = [100 * statistics.mean(found.values()) for _, found in present]
        axes.bar(middle, values, width, label=title, color=pyplot.get_cmap("tab20")(place))
    axes.set_xticks(range(len(tasks)), [f"{task}\n{GLUE[task].metric}" for task in tasks])
    axes.set_ylabel("score (× 100)")
    figure.legend(loc="outside upper center", fontsize=8, ncols=4)
    figure.savefig(path, dpi=150)


if __name__ == "__main__":
    main()
