"""Generation of every form beside transformers' ``generate``: ``propetl bench`` on a backbone of T5-small's sizes.

    python benchmarks/generation.py OUT.json [--small]      # a quarter of an hour; --small is a try of two minutes

Weights are random, which takes as long as trained ones; every answer is as long as asked. Greedy at one and eight rows,
and four beams at one row.
"""

import json
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from random_texts import SMALL_T5, T5_SMALL, write_random_text_bundle
from rich.console import Console

from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.run import run_bench
from propetl.runtime.bench.table import print_report

PROMPT, NEW_TOKENS = 64, 48
# Rows and beams of each run.
RUNS = (((1, 8), 1), ((1,), 4))


def main() -> None:
    """Measures, prints and writes."""
    small = "--small" in sys.argv
    size, reports = SMALL_T5 if small else T5_SMALL, []
    with tempfile.TemporaryDirectory() as folder:
        write_random_text_bundle(Path(folder), size)
        forms = ("folded", "switchable", "bank")
        export_bundle(Path(folder) / "bundle", Path(folder) / "artifact", ExportOptions(forms=forms))
        for batches, beams in RUNS:
            options = BenchOptions(
                batches=batches,
                sequences=(PROMPT,),
                new_tokens=NEW_TOKENS,
                beams=beams,
                rounds=1 if small else 5,
                bundle=Path(folder) / "bundle",
            )
            report = run_bench(plan_of(Path(folder) / "artifact", options))
            print_report(Console(), report)
            reports.append(report.to_json())
    Path(sys.argv[1]).write_text(json.dumps({"sizes": asdict(size), "reports": reports}, indent=2) + "\n")


if __name__ == "__main__":
    main()
