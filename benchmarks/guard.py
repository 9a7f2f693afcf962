"""Regression guard: the key ratios again, held against those on record; by hand, on a quiet machine, before releases.

    python benchmarks/guard.py            # under five minutes; exit 1 if one is worse by more than its recorded spread
    python benchmarks/guard.py --record   # five runs, written to benchmarks/results/guard.json

A figure is worse if it is above the recorded median by more than the recorded spread (greatest minus least of five
runs). Smaller is better in each.
"""

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

import numpy as np
from ratios import GROUPS, Bench

from propetl.runtime.bench.conditions import conditions_now

RECORD = Path(__file__).parent / "results" / "guard.json"
KEY_GROUPS = ("forms", "tasks", "eager", "cold", "sessions", "training")
RECORDED_RUNS = 5


def main() -> None:
    """Records, or measures once and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--record", action="store_true", help="write what is found as the new record")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for what is made and used again")
    asked = parser.parse_args()
    bench = Bench(asked.work, rounds=5)
    if asked.record:
        record(bench)
        return
    if not RECORD.exists():
        sys.exit(f"there is no {RECORD}; make one on a quiet machine: python benchmarks/guard.py --record")
    known = json.loads(RECORD.read_text())["figures"]
    worse = compare(known, measured(bench))
    sys.exit("\n".join(worse) if worse else 0)


def record(bench: Bench) -> None:
    """Runs five times and writes median and spread of each figure."""
    conditions, runs = asdict(conditions_now(eager=True)), [measured(bench) for _ in range(RECORDED_RUNS)]
    figures = {}
    for name in runs[0]:
        values = [run[name] for run in runs]
        figures[name] = {"median": float(np.median(values)), "spread": max(values) - min(values)}
    RECORD.write_text(json.dumps({"figures": figures, "conditions": conditions}, indent=2) + "\n")
    print(f"recorded {len(figures)} figures in {RECORD}")


def measured(bench: Bench) -> dict[str, float]:
    """All key figures once."""
    found: dict[str, float] = {}
    for group in KEY_GROUPS:
        print(f"measuring {group}", file=sys.stderr)
        found |= GROUPS[group](bench)
    return found


def compare(known: dict[str, dict[str, float]], found: dict[str, float]) -> list[str]:
    """Prints every figure beside its record, and gives a line for each that is worse."""
    worse = []
    for name, entry in known.items():
        allowed = entry["median"] + entry["spread"]
        if name not in found:
            worse.append(f"{name}: not measured; record anew after a change of figures")
            continue
        print(f"{name:45} {found[name]:8.3f}   recorded {entry['median']:.3f} + {entry['spread']:.3f}")
        if found[name] > allowed:
            worse.append(
                f"{name}: {found[name]:.3f}, recorded {entry['median']:.3f} with a spread of {entry['spread']:.3f}"
            )
    return worse


if __name__ == "__main__":
    main()
