"""What ten folded tasks cost to export and to store, beside one: time and bytes on disk.

    python benchmarks/export_scaling.py OUT.json        # about two minutes

Each export runs in a process of its own, in turn 1, 10, 1, 10, …; the tasks are random masks and heads on MiniLM,
which take as long and as much as trained ones.
"""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from random_tasks import write_random_bundle

from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.prototypes.layout import TaskLayout

TASKS = 10
ROUNDS = 3


def main() -> None:
    """Measures, prints and writes."""
    if sys.argv[1] == "--export":
        _export(Path(sys.argv[2]), Path(sys.argv[3]), int(sys.argv[4]))
        return
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        layout = write_random_bundle(root / "bundle", TASKS)
        seconds: dict[int, list[float]] = {1: [], TASKS: []}
        for round_number in range(ROUNDS):
            for count, times in seconds.items():
                times.append(_timed(root, round_number, count))
        stored = _bytes_on_disk(root / f"artifact-{TASKS}-0")
        needed = _needed(root / f"artifact-{TASKS}-0", layout)
    report = {
        "seconds": {str(count): times for count, times in seconds.items()},
        "time_ratio": [ten / one for one, ten in zip(seconds[1], seconds[TASKS], strict=True)],
        "bytes_on_disk": stored,
        "bytes_needed": needed,
        "disk_ratio": stored / needed,
        "conditions": {"machine": platform.machine(), "python": platform.python_version(), "rounds": ROUNDS},
    }
    Path(sys.argv[1]).write_text(json.dumps(report, indent=2) + "\n")
    print(
        f"time, {TASKS} tasks / 1 task: {statistics.median(report['time_ratio']):.2f}; disk: {report['disk_ratio']:.3f}"
    )


def _timed(root: Path, round_number: int, count: int) -> float:
    target = root / f"artifact-{count}-{round_number}"
    command = [sys.executable, __file__, "--export", root / "bundle", target, str(count)]
    start = time.perf_counter()
    subprocess.run(list(map(str, command)), check=True)
    return time.perf_counter() - start


def _export(bundle: Path, target: Path, count: int) -> None:
    export_bundle(bundle, target, ExportOptions(tasks=tuple(f"task-{index}" for index in range(count))))


def _bytes_on_disk(folder: Path) -> int:
    """Bytes of every file once, however many names it has."""
    sizes = {path.stat().st_ino: path.stat().st_size for path in folder.rglob("*") if path.is_file()}
    return sum(sizes.values())


def _needed(folder: Path, layout: TaskLayout) -> int:
    """The backbone, and for each task its head and its folded weights in float32."""
    backbone = (folder / "backbone.data").stat().st_size
    folded = sum(tensor.slots * tensor.size for tensor in layout.tensors) * 4
    head = 2 * (layout.hidden_size + 1) * 4
    return backbone + TASKS * (folded + head)


if __name__ == "__main__":
    main()
