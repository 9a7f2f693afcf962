"""Every target of speed, size and memory: what was to be reached, what was found, its spread, and whether it holds.

    python benchmarks/targets.py [--runs 5] [--only forms,cold] [--work .bench]

Bundles and artifacts are made in ``--work`` at the first call (five minutes, most of it a thousand tasks) and used
again. Five runs take about twenty-five minutes. Results are written after each group to
``benchmarks/results/targets.json``; a call with ``--only`` replaces just these groups. Exit 1 if a target is missed.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ratios import GROUPS, Bench

from propetl.runtime.bench.conditions import conditions_now

RESULTS = Path(__file__).parent / "results" / "targets.json"

LIMITS = {
    "folded to bare": 1.03,
    "switchable to folded": 1.02,
    "uniform bank to folded": 1.03,
    "8 tasks in 8 rows of 128 to 1 task": 1.05,
    "8 tasks in 8 rows of 16 to 1 task": 1.05,
    "int8 to fp32": 0.42,
    "fp32 to eager": 0.5,
    "tuned fp32 to eager": 0.5,
    "int8 to eager": 0.25,
    "switching, share of a call": 0.02,
    "adding a task, ms": 10.0,
    "8 folded sessions to 1": 1.15,
    "8 folded sessions to 1, tuned": 1.15,
    "memory of a further task to masks and head": 1.1,
    "random of 1,000 tasks to one, p99": 1.05,
    "disk of 1,000 tasks to what they need": 1.02,
    "first answer to import, hashed": 2.0,
    "first answer to import, not hashed": 2.0,
    "exporting 50 tasks to 1": 3.0,
    "training step to unshared": 1.05,
}
"""Figures that have a limit; the others are shown for what they say about these."""


def main() -> None:
    """Measures, writes and prints."""
    asked = _arguments()
    bench = Bench(asked.work)
    chosen = asked.only.split(",") if asked.only else list(GROUPS)
    if unknown := set(chosen) - set(GROUPS):
        sys.exit(f"--only: unknown group {min(unknown)!r}; known: {', '.join(GROUPS)}")
    report = json.loads(RESULTS.read_text()) if RESULTS.exists() else {"figures": {}, "conditions": {}}
    for group in chosen:
        report["conditions"][group] = asdict(conditions_now(eager=True))
        runs = [_run(bench, group, run, asked.runs) for run in range(asked.runs)]
        report["figures"] |= {name: [run[name] for run in runs] for name in runs[0]}
        RESULTS.parent.mkdir(exist_ok=True)
        RESULTS.write_text(json.dumps(report, indent=2) + "\n")
    figures = report["figures"]
    print(table(figures))
    sys.exit(1 if any(_missed(name, values) for name, values in figures.items()) else 0)


def table(figures: dict[str, list[float]]) -> str:
    """One line per figure; the median is what is held against the limit."""
    lines = ["| figure | target | found | over the runs | |", "|---|---|---|---|---|"]
    for name, values in figures.items():
        limit = f"≤ {LIMITS[name]:g}" if name in LIMITS else "–"
        verdict = "" if name not in LIMITS else ("missed" if _missed(name, values) else "holds")
        lines.append(
            f"| {name} | {limit} | {np.median(values):.3f} | {min(values):.3f} – {max(values):.3f} | {verdict} |"
        )
    if left := [name for name in LIMITS if name not in figures]:
        lines.append(f"\nnot measured: {'; '.join(left)}")
    return "\n".join(lines)


def _missed(name: str, values: list[float]) -> bool:
    return name in LIMITS and float(np.median(values)) > LIMITS[name]


def _run(bench: Bench, group: str, run: int, runs: int) -> dict[str, float]:
    print(f"{group}: run {run + 1} of {runs}", file=sys.stderr)
    return GROUPS[group](bench)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--only", default="", help=f"groups, separated by commas: {', '.join(GROUPS)}")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for what is made and used again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
