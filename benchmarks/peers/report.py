"""The comparison as a page and as a plot."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from peers.contenders import CONTENDERS
from propetl.runtime.bench.messages import Cell

Report = Mapping[str, Any]


def as_markdown(report: Report) -> str:
    """Two tables, of latency and of what many tasks cost, and what was not run."""
    lines = [*_latency(report), "", *_many_tasks(report)]
    lines += [f"Not run: {name} ({why})." for name, why in report["missing"].items()]
    return "\n".join(lines) + "\n"


def _latency(report: Report) -> list[str]:
    """Milliseconds of each cell, and the ratio to folded."""
    cells = report["ms"]
    lines = [
        f"MiniLM-L6-H384, {report['threads']} thread(s), {report['conditions']['cpu']}; medians of {report['rounds']} "
        "rounds, and the ratio to folded within a round (least to greatest). Weights of adapters and heads are random: "
        "speed does not depend on them.",
        "",
        "| runtime | " + " | ".join(f"{cell}, ms (to folded)" for cell in cells) + " |",
        "|---|" + "---|" * len(cells),
    ]
    for name in report["figures"]:
        times = " | ".join(_time(times, name) for times in cells.values())
        lines.append(f"| {CONTENDERS[name].title} | {times} |")
    return lines


def _many_tasks(report: Report) -> list[str]:
    """Disk, memory, start, mixing, switching and score of each."""
    tasks = report["tasks"]
    lines = [
        f"Files of {tasks} tasks; memory (PSS) of a process alone with one task and with all {tasks} run; seconds from "
        "the start of the process to its first answer; a batch of 8 rows of 8 tasks to one of one task, 8 × 64; what a "
        "call at 1 × 16 costs more that switches the task; and the mean score of the method over eight GLUE tasks "
        "([real_run.md](real_run.md)), less what quantising loses.",
        "",
        f"| runtime | disk, MB | 1 task, MB | {tasks} tasks, MB | start, s | mixed | switching | GLUE |",
        "|---|---|---|---|---|---|---|---|",
    ]
    for name, found in report["figures"].items():
        cells = [
            f"{found['disk'] / 1e6:.0f}",
            f"{found['one'] / 1e6:.0f}",
            _or_dash(found, "all", lambda value: f"{value / 1e6:.0f}"),
            f"{found['start']:.2f}",
            _or_dash(found, "mixed", lambda value: f"{value:.2f}"),
            _or_dash(found, "switching", lambda value: f"{100 * value:+.1f}%"),
            _score(report, name),
        ]
        lines.append(f"| {CONTENDERS[name].title} | {' | '.join(cells)} |")
    return [*lines, ""]


def _or_dash(found: Mapping[str, float], key: str, text: Any) -> str:
    return text(found[key]) if key in found else "–"


def _score(report: Report, name: str) -> str:
    contender = CONTENDERS[name]
    score = report["scores"].get(contender.method)
    if score is None:
        return "–"
    if not contender.quantised:
        return f"{score:.1f}"
    lost = report["lost"].get(contender.quantised)
    return f"{score:.1f}, loss not measured" if lost is None else f"{score:.1f} {-lost:+.1f}"


def _time(times: Mapping[str, list[float]], name: str) -> str:
    ratios = np.divide(times[name], times["folded"])
    return f"{np.median(times[name]):.2f} ({np.median(ratios):.2f}; {ratios.min():.2f} – {ratios.max():.2f})"


def name_of(cell: Cell) -> str:
    """As tables write it: rows × tokens."""
    return f"{cell.batch} × {cell.sequence}"


def plot(report: Report, path: Path) -> None:
    """Bars of latency to folded, and of memory and disk; nothing where matplotlib is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    names = list(report["figures"])
    figure, (left, right) = pyplot.subplots(
        1, 2, sharey=True, figsize=(12, 0.5 * len(names) + 1.5), layout="constrained"
    )
    ratios = {
        cell: [np.median(np.divide(times[name], times["folded"])) for name in names]
        for cell, times in report["ms"].items()
    }
    _bars(left, ratios, "time of a call, ProPETL folded = 1")
    left.axvline(1, color="black", linewidth=0.8)
    sizes = {
        f"memory, {report['tasks']} tasks": [report["figures"][name].get("all", np.nan) / 1e6 for name in names],
        f"disk, {report['tasks']} tasks": [report["figures"][name]["disk"] / 1e6 for name in names],
    }
    _bars(right, sizes, "MB")
    left.set_yticks(np.arange(len(names)) + 0.3, [CONTENDERS[name].title for name in names])
    left.invert_yaxis()
    figure.savefig(path, dpi=120)


def _bars(axes: Any, values: Mapping[str, list[float]], label: str) -> None:
    """A bar of each series beside the others, at every contender's place."""
    for place, (name, widths) in enumerate(values.items()):
        offsets = np.arange(len(widths)) + 0.8 * place / len(values)
        axes.barh(offsets, widths, height=0.7 / len(values), label=name)
    axes.set_xlabel(label)
    axes.legend()
