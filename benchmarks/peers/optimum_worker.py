"""``python -m peers.optimum_worker``: optimum-onnx's export of one task, at its levels of optimisation and its int8.

Runtimes: ``optimum-o1``, ``optimum-o2``, ``optimum-o3`` and ``optimum-int8`` (dynamic, per channel, for AVX-512 VNNI).
It exports a classifier without adapter: what merged adapters cost in a graph per task.
"""

from pathlib import Path
from typing import Any

from peers import TASKS
from peers.optimum_quantise import quantise
from peers.ort_sessions import GraphPerTask, work_folder
from peers.torch_models import classifier
from propetl.runtime.bench.messages import Load
from propetl.runtime.bench.worker import serve_standard_streams


def load(asked: Load) -> Any:
    """Sessions over the graph that ``asked`` names; one file serves every task, opened once for each."""
    path = graph(asked.source, asked.runtime.removeprefix("optimum-"))
    return GraphPerTask(dict.fromkeys(TASKS, path), asked.threads)


def graph(source: str, kind: str) -> Path:
    """The exported, then optimised or quantised graph."""
    folder = work_folder() / f"optimum-{kind}"
    names = {"int8": "model_quantized.onnx"}
    made = folder / names.get(kind, "model_optimized.onnx")
    if not made.exists():
        _make(source, kind, folder)
    return made


def _make(source: str, kind: str, folder: Path) -> None:
    from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer
    from optimum.onnxruntime.configuration import AutoOptimizationConfig

    plain = work_folder() / "optimum-plain"
    if not (plain / "model.onnx").exists():
        saved = work_folder() / "optimum-source"
        classifier(source).save_pretrained(saved)
        ORTModelForSequenceClassification.from_pretrained(saved, export=True).save_pretrained(plain)
    if kind == "int8":
        quantise(plain, folder)
    else:
        ORTOptimizer.from_pretrained(plain).optimize(getattr(AutoOptimizationConfig, kind.upper())(), folder)


if __name__ == "__main__":
    serve_standard_streams(load)
