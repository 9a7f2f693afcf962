"""``python -m peers.graphs_worker``: ONNX Runtime alone over the graphs that peers export.

What exports them is started as a process of its own where they are not there yet, so that nothing of PyTorch, PEFT or
optimum is in the process that is measured: a device needs none of it to run them.
"""

import subprocess
import sys
from collections.abc import Collection
from pathlib import Path
from typing import Any

from peers import TASKS
from peers.ort_sessions import (
    AdapterFiles,
    GraphPerTask,
    adapter_files,
    adapter_graph,
    merged_graphs,
    optimum_graph,
)
from propetl.runtime.bench.messages import Load
from propetl.runtime.bench.worker import serve_standard_streams


def load(asked: Load) -> Any:
    """Sessions over what ``asked`` names. Optimum's one file serves every task, opened once for each."""
    kind = asked.runtime
    if kind == "peft-merged":
        graphs = merged_graphs()
        _make("peers.peft_graphs", asked, graphs.values())
        return GraphPerTask(graphs, asked.threads)
    if kind == "ort-adapters":
        graph, files = adapter_graph(), adapter_files()
        _make("peers.peft_graphs", asked, [graph, *files.values()])
        return AdapterFiles(graph, files, asked.threads)
    graph = optimum_graph(kind.removeprefix("optimum-"))
    _make("peers.optimum_graphs", asked, [graph])
    return GraphPerTask(dict.fromkeys(TASKS, graph), asked.threads)


def _make(module: str, asked: Load, files: Collection[Path]) -> None:
    """Exports unless all is there; answers go over standard output, so nothing else may."""
    if not all(path.exists() for path in files):
        subprocess.run([sys.executable, "-m", module, asked.runtime, asked.source], check=True, stdout=sys.stderr)


if __name__ == "__main__":
    serve_standard_streams(load)
