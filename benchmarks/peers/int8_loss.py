"""What optimum-onnx's dynamic int8 costs the tasks of a trained bundle, beside PyTorch in float32.

    python benchmarks/peers/int8_loss.py BUNDLE ARTIFACT DATA [--environments .venv-peers-]

ARTIFACT is the bundle's folded graphs in fp32, exported with --standalone or not. Each is quantised by optimum and put
in its place in a copy of the artifact; every development row then goes through PyTorch and through that copy. Written
to ``benchmarks/results/peers_int8.json``. Two minutes a task.
"""

import argparse
import json
import os
import shutil
import subprocess
import sys
import tempfile
from dataclasses import asdict
from pathlib import Path

from propetl.export.parity import compare
from propetl.export.quantisation_loss import loss_of
from propetl.files import file_record, json_bytes
from propetl.runtime.bench.conditions import conditions_now

HERE = Path(__file__).resolve().parent
RESULTS = HERE.parent / "results"


def main() -> None:
    """Quantises, measures, writes."""
    asked = parser_of(__doc__).parse_args()
    with tempfile.TemporaryDirectory() as folder:
        copy = Path(folder) / "artifact"
        optimum_copy(asked.artifact, copy, asked.environments)
        losses = [asdict(loss_of(item)) for item in compare(copy, asked.bundle, asked.data, form="folded")]
    method = {"quantised": {"optimum-int8": losses}}
    report = {"methods": {"optimum-onnx, dynamic int8": method}, "conditions": asdict(conditions_now(eager=True))}
    (RESULTS / "peers_int8.json").write_text(json.dumps(report, indent=2) + "\n")
    for loss in losses:
        print(f"{loss['task']:8} {loss['metric']:10} {100 * (loss['reference'] - loss['quantised']):+.2f} points lost")


def parser_of(description: str) -> argparse.ArgumentParser:
    """Of a trained bundle, its folded artifact, its tasks' data, and where the peers' environments are."""
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("bundle", type=Path)
    parser.add_argument("artifact", type=Path)
    parser.add_argument("data")
    parser.add_argument("--environments", default=".venv-peers-", help="what the environments' folders begin with")
    return parser


def optimum_copy(source: Path, artifact: Path, environments: str) -> None:
    """Copies a folded artifact, with optimum's graphs in the place of its own and their hashes in its manifest."""
    shutil.copytree(source, artifact)
    python = f"{environments}optimum/bin/python"
    manifest = json.loads((artifact / "artifact.json").read_bytes())
    for task, entry in manifest["forms"]["folded"]["graphs"].items():
        graph = artifact / entry["path"]
        with tempfile.TemporaryDirectory() as folder:
            print(f"quantising {task}", file=sys.stderr)
            command = [python, "-m", "peers.optimum_quantise", str(graph.parent), folder]
            environment = os.environ | {"PYTHONPATH": str(HERE.parent)}
            subprocess.run(command, check=True, env=environment, stdout=subprocess.DEVNULL)
            shutil.copyfile(Path(folder) / "model_quantized.onnx", graph)
        manifest["files"][entry["path"]] = file_record(graph)
    (artifact / "artifact.json").write_bytes(json_bytes(manifest))


if __name__ == "__main__":
    main()
