"""What quantising, attention as one operator and tuning bring on this CPU: latency, and memory of folded sessions.

    python benchmarks/cpu_graphs.py OUT.json [ROUNDS] [TASKS]        # about ten minutes with 5 rounds, 8 tasks

MiniLM with random masks, which run like trained ones. Every measurement is a process of its own, one thread, in turn
over the artifacts; latencies are medians of a process at batch 1, sequence 128, ratios are taken within a round.
"""

import json
import platform
import statistics
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import numpy as np

from propetl.export.options import ExportOptions
from propetl.runtime import Session
from propetl.runtime.bench.memory import own_memory

SEQUENCE, CALLS, WARM_UP = 128, 40, 5
ARTIFACTS = {
    "fp32": ExportOptions(),
    "fp32, operators of ONNX Runtime": ExportOptions(operators="onnxruntime"),
    "fp32, tuned": ExportOptions(tune=True),
    "int8": ExportOptions(quantize="int8"),
    "int8, operators of ONNX Runtime": ExportOptions(quantize="int8", operators="onnxruntime"),
}


def main() -> None:
    """Measures, prints and writes."""
    if sys.argv[1] == "--measure":
        print(json.dumps(_measured(Path(sys.argv[2]), int(sys.argv[3]))))
        return
    # Imported here: a measuring process is not to hold PyTorch.
    from random_tasks import write_random_bundle

    from propetl.export.writer import export_bundle

    rounds, tasks = (int(value) for value in (*sys.argv[2:], "5", "8")[:2])
    with tempfile.TemporaryDirectory() as folder:
        root = Path(folder)
        write_random_bundle(root / "bundle", tasks)
        names = tuple(f"task-{index}" for index in range(tasks))
        for name, options in ARTIFACTS.items():
            export_bundle(root / "bundle", root / name, _with_tasks(options, names))
        found = [{name: _in_process(root / name) for name in ARTIFACTS} for _ in range(rounds)]
        several = {name: _in_process(root / name, tasks) for name in ARTIFACTS}
    report = {
        "seconds": {name: [item[name]["seconds"] for item in found] for name in ARTIFACTS},
        "ratio_to_fp32": {
            name: [item[name]["seconds"] / item["fp32"]["seconds"] for item in found] for name in ARTIFACTS
        },
        "pss_ratio": {name: several[name]["pss_bytes"] / found[0][name]["pss_bytes"] for name in ARTIFACTS},
        "one_session": {name: found[0][name] for name in ARTIFACTS},
        "several_sessions": several,
        "conditions": {
            "machine": platform.machine(),
            "onnxruntime": version("onnxruntime"),
            "rounds": rounds,
            "tasks": tasks,
            "sequence": SEQUENCE,
            "threads": 1,
        },
    }
    Path(sys.argv[1]).write_text(json.dumps(report, indent=2) + "\n")
    for name in ARTIFACTS:
        ratio = statistics.median(report["ratio_to_fp32"][name])
        print(f"{name}: {ratio:.3f} of fp32; memory of {tasks} sessions / one: {report['pss_ratio'][name]:.2f}")


def _with_tasks(options: ExportOptions, tasks: tuple[str, ...]) -> ExportOptions:
    return ExportOptions(tasks=tasks, operators=options.operators, quantize=options.quantize, tune=options.tune)


def _in_process(artifact: Path, sessions: int = 1) -> dict[str, float]:
    command = [sys.executable, __file__, "--measure", str(artifact), str(sessions)]
    found: dict[str, float] = json.loads(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    return found


def _measured(artifact: Path, sessions: int) -> dict[str, float]:
    """Opens the folded graphs of so many tasks, runs each, and times the first."""
    ids = np.random.default_rng(0).integers(1000, 20000, (1, SEQUENCE))
    feeds = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
    start = time.perf_counter()
    session = Session.open(artifact, form="folded", threads=1, verify=False)
    for task in session.tasks[:sessions]:
        session.run(task, feeds)
    first_answers = time.perf_counter() - start
    times = [_timed(session, feeds) for _ in range(WARM_UP + CALLS)][WARM_UP:]
    return {
        "seconds": statistics.median(times),
        "first_answers": first_answers,
        "pss_bytes": own_memory().pss,
    }


def _timed(session: Session, feeds: dict[str, np.ndarray]) -> float:
    start = time.perf_counter()
    session.run(session.tasks[0], feeds)
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
