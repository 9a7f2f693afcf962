"""What ``polygraphy run`` needs to compare an engine with PyTorch: recorded inputs and outputs, and the commands."""

import shlex
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.export.transformers_layout import add_file
from propetl.runtime.artifact import Artifact
from propetl.runtime.manifest import BACKBONE_FILE, GraphInfo
from propetl.runtime.report import TOLERANCES
from propetl.runtime.signatures import BANK, BARE, FOLDED, LOGITS, SWITCHABLE, TASK_ID

POLYGRAPHY_FOLDER = "polygraphy"
SCRIPT = "run.sh"

_RUNNER = "PyTorch"
_LEAST_TOLERANCE = 1e-4
"""Engines add up in other orders than ONNX Runtime, which fp32's own tolerance is made for."""


@dataclass(frozen=True)
class _Case:
    """One task in one graph.

    Attributes:
        folder: of its records, inside :data:`POLYGRAPHY_FOLDER`.
        graph: path of the ONNX file, from there.
        feeds: all inputs of the graph.
        logits: what PyTorch gives.
    """

    folder: str
    graph: str
    feeds: dict[str, NDArray[Any]]
    logits: NDArray[np.float32]


def write_polygraphy_files(artifact: Artifact, standalone: bool) -> None:
    """Writes the golden rows of each task and graph for Polygraphy, and a script that runs them all.

    Polygraphy loads graphs by path, and their weights from beside them. Folded folders hold both; the graphs
    of other forms are put beside the weights here.

    Args:
        artifact: whose folder receives them.
        standalone: copy graphs and weights instead of linking them.
    """
    root = artifact.path / POLYGRAPHY_FOLDER
    root.mkdir()
    tolerance = max(TOLERANCES[artifact.manifest.precision].absolute, _LEAST_TOLERANCE)
    commands = []
    for form, info in artifact.manifest.forms.items():
        if form == BARE:
            continue  # its head is of no task, so nothing is recorded of it
        for case in _cases(artifact, form, info.all_graphs()):
            _write_case(root, case)
            commands.append(_command(case, tolerance))
        if info.graph is not None:
            for source in (info.graph.path, BACKBONE_FILE):
                add_file(artifact.path / source, root / form / Path(source).name, standalone)
    (root / SCRIPT).write_text(_script(commands), "utf-8")


def _cases(artifact: Artifact, form: str, graphs: dict[str | None, GraphInfo]) -> Iterator[_Case]:
    manifest = artifact.manifest
    widest = max((manifest.tasks[task].info.outputs for task in manifest.forms[form].task_ids), default=0)
    for task in manifest.tasks:
        info = graphs[task] if form == FOLDED else graphs[None]
        golden = artifact.golden(task)
        feeds: dict[str, NDArray[Any]] = {**golden.feeds}
        logits = golden.logits
        if form == SWITCHABLE:
            feeds |= artifact.pack(task).tensors()
        if form == BANK:
            feeds[TASK_ID] = np.full(len(logits), manifest.forms[BANK].task_ids[task])
            missing = [(0, 0)] * (logits.ndim - 1) + [(0, widest - logits.shape[-1])]
            logits = np.pad(logits, missing)  # zeros, as the bank's heads have there
        graph = f"../{info.path}" if form == FOLDED else f"{form}/{Path(info.path).name}"
        yield _Case(f"{form}/{task}", graph, {item.name: feeds[item.name] for item in info.inputs}, logits)


def _write_case(root: Path, case: _Case) -> None:
    from polygraphy.comparator import IterationResult, RunResults
    from polygraphy.json import to_json

    folder = root / case.folder
    folder.mkdir(parents=True)
    recorded = IterationResult(outputs={LOGITS: case.logits}, runner_name=_RUNNER)
    (folder / "inputs.json").write_text(to_json([case.feeds]), "utf-8")
    (folder / "outputs.json").write_text(RunResults([(_RUNNER, [recorded])]).to_json(), "utf-8")


def _command(case: _Case, tolerance: float) -> str:
    """The command of one case; TensorRT, unlike ONNX Runtime, wants the shapes that will come."""
    shapes = [shlex.quote(f"{name}:{list(array.shape)}".replace(" ", "")) for name, array in case.feeds.items()]
    profile = [word for kind in ("min", "opt", "max") for word in (f"--trt-{kind}-shapes", *shapes)]
    folder = shlex.quote(case.folder)
    words = ["polygraphy run", shlex.quote(case.graph), '"$@"', f"--load-inputs {folder}/inputs.json"]
    words += [f"--load-outputs {folder}/outputs.json", f"--atol {tolerance:g} --rtol {tolerance:g}", *profile]
    return " ".join(words)


def _script(commands: list[str]) -> str:
    head = """#!/usr/bin/env bash
# Runs every graph of this artifact on the golden rows of each task, and compares with what PyTorch gave for them.
#   bash run.sh                       ONNX Runtime
#   bash run.sh --trt --no-tf32       TensorRT; any flags of `polygraphy run`
set -euo pipefail
cd "$(dirname "${BASH_SOURCE[0]}")"
[ $# -gt 0 ] || set -- --onnxrt
failed=0
"""
    return head + "".join(f"{command} || failed=1\n" for command in commands) + "exit $failed\n"
