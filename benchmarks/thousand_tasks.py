"""A thousand tasks in one session: disk, opening, memory, and a random task for each request against a single task.

    python benchmarks/thousand_tasks.py OUT.json [--tasks 1000] [--calls 600] [--artifact FOLDER] [--runs 5]

The tasks are random masks and heads over one prototype on MiniLM, exported as any bundle is. Making them takes about
three minutes; ``--artifact`` keeps the artifact in FOLDER and uses it again. Calls of a single task and of a random one
take turns, so that a drift of the machine hits both alike.
"""

import argparse
import json
import random
import tempfile
import time
from dataclasses import asdict
from pathlib import Path

import numpy as np
from random_tasks import task_bytes, write_random_bundle

from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.runtime import Session
from propetl.runtime.artifact import read_manifest
from propetl.runtime.bench.conditions import conditions_now
from propetl.runtime.bench.memory import own_memory
from propetl.runtime.bench.timing import without_collector
from propetl.runtime.manifest import BACKBONE_FILE

BUDGET = 64 << 20
"""Room for all packs in its third, so that what grows after the weights have filled their part is packs alone."""


def main() -> None:
    """Measures, prints and writes."""
    asked = _arguments()
    with tempfile.TemporaryDirectory() as folder:
        path = asked.artifact or Path(folder) / "artifact"
        if not path.exists():
            make_artifact(Path(folder) / "bundle", path, asked.tasks)
        report = {
            "tasks": asked.tasks,
            "disk": disk(path),
            "opening_ms": opening_ms(path),
            "latency": [latency(path, asked.calls, asked.sequence, run) for run in range(asked.runs)],
            "latency_known": [latency(path, asked.calls, asked.sequence, run, True) for run in range(asked.runs)],
            "memory": memory(path, asked.sequence),
            "task_memory": BUDGET,
            "sequence": asked.sequence,
            "conditions": asdict(conditions_now(eager=False)),
        }
    asked.out.write_text(json.dumps(report, indent=2) + "\n")
    print(summary(report))


def make_artifact(bundle: Path, path: Path, tasks: int) -> None:
    """Writes the bundle and exports it in form switchable."""
    write_random_bundle(bundle, tasks, sample_rows=1)
    export_bundle(bundle, path, ExportOptions(forms=("switchable",)))


def disk(path: Path) -> dict[str, float]:
    """Bytes of all files, and of what is needed: backbone, tokenizer, and masks and head of each task."""
    sizes = {file.stat().st_ino: file.stat().st_size for file in path.rglob("*") if file.is_file()}
    manifest = read_manifest(path).manifest
    shared = (path / BACKBONE_FILE).stat().st_size
    shared += sum(record["bytes"] for name, record in manifest.files.items() if name.startswith("tokenizer/"))
    each = task_bytes(manifest.layout)
    needed = shared + len(manifest.tasks) * each
    stored = sum(sizes.values())
    return {"bytes": stored, "needed": needed, "bytes_per_task": each, "ratio": stored / needed}


def opening_ms(path: Path, repeats: int = 5) -> dict[str, float]:
    """Median milliseconds of opening a session, files hashed or not."""
    found = {}
    for name, verify in (("hashed", True), ("not hashed", False)):
        taken = []
        for _ in range(repeats):
            start = time.perf_counter()
            Session.open(path, threads=1, verify=verify).close()
            taken.append(1e3 * (time.perf_counter() - start))
        found[name] = float(np.median(taken))
    return found


def latency(path: Path, calls: int, sequence: int, seed: int, known: bool = False) -> dict[str, float]:
    """Milliseconds of calls of one task and of a random one, in turn, and the ratio of their quantiles.

    Most random tasks are new to the session, so that their packs are read; of ``known`` ones, each has run before.
    """
    chosen, feeds = random.Random(seed), _feeds(sequence)
    with Session.open(path, threads=1, task_memory=BUDGET) as session, without_collector():
        tasks = session.tasks
        for task in tasks if known else ():
            session.run(task, _feeds(16))
        for task in chosen.choices(tasks, k=50):
            session.run(task, feeds)
        single, mixed = [], []
        for task in chosen.choices(tasks, k=calls):
            single.append(_timed(session, tasks[0], feeds))
            mixed.append(_timed(session, task, feeds))
    quantiles = {f"p{share}": (np.percentile(single, share), np.percentile(mixed, share)) for share in (50, 99)}
    times = {
        f"{name} {kind}": pair[place]
        for name, pair in quantiles.items()
        for place, kind in enumerate(("single", "random"))
    }
    return times | {f"{name} ratio": pair[1] / pair[0] for name, pair in quantiles.items()}


def memory(path: Path, sequence: int) -> dict[str, float]:
    """Bytes (PSS) that each further task takes, once the weights fill their part of the budget."""
    feeds = _feeds(16)
    with Session.open(path, threads=1, task_memory=BUDGET) as session:
        tasks = session.tasks
        half = len(tasks) // 2
        for task in tasks[:half]:
            session.run(task, feeds)
        before = own_memory().pss
        for task in tasks[half:]:
            session.run(task, feeds)
        after = own_memory().pss
    each = task_bytes(read_manifest(path).manifest.layout)
    growth = (after - before) / (len(tasks) - half)
    return {"pss_half": before, "pss_all": after, "bytes_per_further_task": growth, "ratio": growth / each}


def _feeds(sequence: int) -> dict[str, np.ndarray]:
    ids = np.random.default_rng(0).integers(1000, 20000, (1, sequence))
    return {"input_ids": ids, "attention_mask": np.ones_like(ids), "token_type_ids": np.zeros_like(ids)}


def _timed(session: Session, task: str, feeds: dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    session.run(task, feeds)
    return 1e3 * (time.perf_counter() - start)


def summary(report: dict) -> str:
    """The figures as lines."""
    lines = [f"{report['tasks']} tasks; disk {report['disk']['ratio']:.3f} of backbone and tasks"]
    lines += [f"opening: {value:.0f} ms, {name}" for name, value in report["opening_ms"].items()]
    lines += [*_ratio_lines("random", report["latency"]), *_ratio_lines("random known", report["latency_known"])]
    found = report["memory"]
    lines.append(
        f"each further task: {found['bytes_per_further_task']:,.0f} bytes, {found['ratio']:.2f} of masks and head"
    )
    return "\n".join(lines)


def _ratio_lines(kind: str, runs: list[dict[str, float]]) -> list[str]:
    lines = []
    for name in ("p50 ratio", "p99 ratio"):
        values = sorted(run[name] for run in runs)
        lines.append(f"{name}, {kind} task to single: {np.median(values):.3f} ({values[0]:.3f} to {values[-1]:.3f})")
    return lines


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--tasks", type=int, default=1000)
    parser.add_argument("--calls", type=int, default=600, help="calls of either kind in each run")
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--artifact", type=Path, help="folder to keep the artifact in, and to take it from")
    return parser.parse_args()


if __name__ == "__main__":
    main()
