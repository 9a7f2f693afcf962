"""Damaged files by the million: each has to be refused in one line, or to mean what it meant before.

    python benchmarks/fuzz.py --mutants 1000000 [--seed 1] [--workers 1] [--work .bench/fuzz]

Mutants of every file that a program reads (packs, manifests, tensors, graphs, tokenizers, lines of JSON), with the
hashes around them as they were, and made anew. They are read by worker processes, so that one that ends its process
or never ends is found and counted. Progress stands in WORK/progress.jsonl, one line for each thousand mutants; a run
that was broken off goes on there. The result is benchmarks/results/fuzz.json; the exit code is 1 if any mutant failed.
A failed mutant is read again by

    python benchmarks/fuzz.py --seed SEED --number NUMBER
"""

import argparse
import json
import queue
import sys
import tempfile
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import asdict
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT))  # the mutants and what reads them stand among the tests

from propetl.runtime.bench.conditions import conditions_now  # noqa: E402  (needs the path above)
from tests.fuzzing.campaign import FAILURES, Campaign, Tally  # noqa: E402
from tests.fuzzing.isolated import Isolated  # noqa: E402

RESULTS = ROOT / "benchmarks" / "results" / "fuzz.json"
AT_ONCE = 1000
MEMORY = Path("/dev/shm")
"""Files in memory are read and written in microseconds."""


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--mutants", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--workers", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(".bench/fuzz"), help="folder for progress")
    parser.add_argument("--number", type=int, help="read this one mutant again, in this process")
    asked = parser.parse_args()
    with tempfile.TemporaryDirectory(dir=MEMORY if MEMORY.is_dir() else None, prefix="propetl-fuzz-") as scratch:
        if asked.number is not None:
            print(*Campaign(Path(scratch) / "one", asked.seed).outcome(asked.number), sep="\n")
            return
        asked.work.mkdir(parents=True, exist_ok=True)
        run(asked.mutants, asked.seed, asked.workers, asked.work / "progress.jsonl", Path(scratch))
    report = summary(asked.mutants, asked.seed, asked.work / "progress.jsonl")
    RESULTS.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    print(json.dumps(report["outcomes"]))
    sys.exit(1 if report["failures"] else 0)


def run(mutants: int, seed: int, workers: int, progress: Path, scratch: Path) -> None:
    """Reads what is not yet in ``progress``, a thousand at once, and adds a line for each thousand."""
    done = {entry["first"] for entry in entries(progress, seed)}
    todo: queue.SimpleQueue[int] = queue.SimpleQueue()
    for first in range(0, mutants, AT_ONCE):
        if first not in done:
            todo.put(first)
    lock = threading.Lock()

    def work(index: int) -> None:
        folder = scratch / str(index)
        folder.mkdir()
        with Isolated(folder, seed) as worker:
            while True:
                try:
                    first = todo.get_nowait()
                except queue.Empty:
                    return
                start = time.perf_counter()
                tally = worker.run(first, min(AT_ONCE, mutants - first))
                entry = {"seed": seed, "first": first, "seconds": time.perf_counter() - start, **tally.to_json()}
                with lock, progress.open("a", encoding="utf-8") as stream:
                    stream.write(json.dumps(entry) + "\n")
                for failure in tally.failures:
                    print(*failure, file=sys.stderr)

    with ThreadPoolExecutor(workers) as pool:
        for future in [pool.submit(work, index) for index in range(workers)]:
            future.result()


def entries(progress: Path, seed: int) -> list[dict[str, Any]]:
    """Lines of ``progress`` of this seed; a line that was broken off is none."""
    found = []
    for line in progress.read_text("utf-8").splitlines() if progress.exists() else ():
        try:
            found.append(json.loads(line))
        except ValueError:
            continue
    return [entry for entry in found if entry["seed"] == seed]


def summary(mutants: int, seed: int, progress: Path) -> dict[str, Any]:
    """Outcomes of the first ``mutants``, in all and by target."""
    chosen = [entry for entry in entries(progress, seed) if entry["first"] < mutants]
    tally, seconds = Tally(), sum(entry["seconds"] for entry in chosen)
    for entry in chosen:
        tally += Tally.from_json(entry)
    outcomes: dict[str, int] = dict.fromkeys(FAILURES, 0)
    targets: dict[str, dict[str, int]] = {}
    for (target, outcome), count in sorted(tally.counts.items()):
        outcomes[outcome] = outcomes.get(outcome, 0) + count
        targets.setdefault(target, {})[outcome] = count
    return {
        "mutants": sum(outcomes.values()),
        "seed": seed,
        "outcomes": outcomes,
        "targets": targets,
        "failures": tally.failures,
        "mutants_per_second_of_one_process": round(sum(outcomes.values()) / seconds, 1),
        "conditions": asdict(conditions_now(eager=False)),
    }


if __name__ == "__main__":
    main()
