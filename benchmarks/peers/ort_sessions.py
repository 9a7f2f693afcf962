"""ONNX Runtime sessions over files, one for each task: what peers that export a graph per task run."""

import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from peers import TASKS

Feeds = Mapping[str, np.ndarray]


def work_folder() -> Path:
    """Where a peer keeps what it exported."""
    folder = Path(os.environ["PEERS_WORK"])
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def merged_graphs() -> dict[str, Path]:
    """By task: a LoRA merged into its backbone."""
    return {task: work_folder() / f"peft-merged-{task}.onnx" for task in TASKS}


def adapter_graph() -> Path:
    """The graph that takes LoRA weights."""
    return work_folder() / "ort-adapters.onnx"


def adapter_files() -> dict[str, Path]:
    """By task: LoRA weights as ONNX Runtime loads them."""
    return {task: work_folder() / f"{task}.onnx_adapter" for task in TASKS}


def optimum_graph(kind: str) -> Path:
    """What optimum-onnx optimised or quantised: ``o1``, ``o2``, ``o3`` or ``int8``."""
    name = "model_quantized.onnx" if kind == "int8" else "model_optimized.onnx"
    return work_folder() / f"optimum-{kind}" / name


def opened(path: Path, threads: int) -> Any:
    """A session on the CPU with ONNX Runtime's default optimisations."""
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.log_severity_level = 3
    return onnxruntime.InferenceSession(str(path), options, providers=["CPUExecutionProvider"])


class GraphPerTask:
    """One session per task, opened at its first call."""

    def __init__(self, graphs: Mapping[str, Path], threads: int) -> None:
        """``graphs`` by task."""
        self._graphs = dict(graphs)
        self._threads = threads
        self._sessions: dict[str, Any] = {}

    def run(self, task: str, feeds: Feeds) -> np.ndarray:
        """Logits of one batch."""
        if task not in self._sessions:
            self._sessions[task] = opened(self._graphs[task], self._threads)
        session = self._sessions[task]
        taken = {item.name for item in session.get_inputs()}
        logits: np.ndarray = session.run(None, {name: value for name, value in feeds.items() if name in taken})[0]
        return logits

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
        """One call for the rows of each task."""
        return by_task(self, tasks, feeds)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


class AdapterFiles:
    """One graph whose LoRA weights come from ONNX Runtime's adapter files."""

    def __init__(self, graph: Path, adapters: Mapping[str, Path], threads: int) -> None:
        import onnxruntime

        self._runtime = onnxruntime
        self._session = opened(graph, threads)
        self._adapters: dict[str, Any] = {}
        self._options: dict[str, Any] = {}
        for task, path in adapters.items():
            self._adapters[task] = onnxruntime.LoraAdapter()
            self._adapters[task].Load(str(path))
            self._options[task] = onnxruntime.RunOptions()
            self._options[task].add_active_adapter(self._adapters[task])

    def run(self, task: str, feeds: Feeds) -> np.ndarray:
        """Logits of one batch."""
        logits: np.ndarray = self._session.run(None, dict(feeds), self._options[task])[0]
        return logits

    def run_mixed(self, tasks: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
        """One call for the rows of each task: an adapter serves a whole call."""
        return by_task(self, tasks, feeds)

    def adding_times(self, task: str, repeats: int) -> list[int]:
        """Not measured."""
        return []


def by_task(subject: Any, tasks: Sequence[str], feeds: Feeds) -> list[np.ndarray]:
    """Runs the rows of each task in a call of its own; logits by row."""
    logits: dict[int, np.ndarray] = {}
    for task in dict.fromkeys(tasks):
        rows = [row for row, wanted in enumerate(tasks) if wanted == task]
        found = subject.run(task, {name: value[rows] for name, value in feeds.items()})
        logits |= dict(zip(rows, found, strict=True))
    return [logits[row] for row in range(len(tasks))]
