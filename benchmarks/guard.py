"""Regression guard: the key ratios again, held against those on record; by hand, on a quiet machine, before releases.

    python benchmarks/guard.py [--work .bench]     # under five minutes; exit 1 if one is worse

The record is what ``targets.py`` wrote, of the same kind of machine: a figure is worse if it is above the median of
those runs by more than their spread (greatest minus least). Smaller is better in each.
"""

import argparse
import json
import sys
from pathlib import Path

import numpy as np
from ratios import GROUPS, Bench
from targets import RESULTS

KEY_GROUPS = ("forms", "tasks", "eager", "cold", "sessions", "training")


def main() -> None:
    """Measures once and compares."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for what is made and used again")
    asked = parser.parse_args()
    if not RESULTS.exists():
        sys.exit(f"there is no {RESULTS}; make one on a quiet machine: python benchmarks/targets.py")
    known = json.loads(RESULTS.read_text())["figures"]
    worse = compare(known, measured(Bench(asked.work, rounds=5)))
    sys.exit("\n".join(worse) if worse else 0)


def measured(bench: Bench) -> dict[str, float]:
    """All key figures once."""
    found: dict[str, float] = {}
    for group in KEY_GROUPS:
        print(f"measuring {group}", file=sys.stderr)
        found |= GROUPS[group](bench)
    return found


def compare(known: dict[str, list[float]], found: dict[str, float]) -> list[str]:
    """Prints every figure beside its record, and gives a line for each that is worse."""
    worse = []
    for name, value in found.items():
        if name not in known:
            worse.append(f"{name}: not on record; run targets.py after a change of figures")
            continue
        median, spread = float(np.median(known[name])), max(known[name]) - min(known[name])
        print(f"{name:45} {value:8.3f}   recorded {median:.3f} + {spread:.3f}")
        if value > median + spread:
            worse.append(f"{name}: {value:.3f}, recorded {median:.3f} with a spread of {spread:.3f}")
    return worse


if __name__ == "__main__":
    main()
