"""``python -m peers.optimum_graphs KIND SOURCE``: optimum-onnx's export of one task, at a level or in int8.

KIND is ``optimum-o1``, ``optimum-o2``, ``optimum-o3`` or ``optimum-int8`` (dynamic, per channel, for AVX-512 VNNI). It
exports a classifier without adapter: what merged adapters cost in a graph per task.
"""

import sys

from optimum.onnxruntime import ORTModelForSequenceClassification, ORTOptimizer
from optimum.onnxruntime.configuration import AutoOptimizationConfig

from peers.optimum_quantise import quantise
from peers.ort_sessions import optimum_graph, work_folder
from peers.torch_models import classifier


def make(source: str, kind: str) -> None:
    """Leaves the graph where :func:`optimum_graph` says."""
    plain, folder = work_folder() / "optimum-plain", optimum_graph(kind).parent
    if not (plain / "model.onnx").exists():
        saved = work_folder() / "optimum-source"
        classifier(source).save_pretrained(saved)
        ORTModelForSequenceClassification.from_pretrained(saved, export=True).save_pretrained(plain)
    if kind == "int8":
        quantise(plain, folder)
    else:
        ORTOptimizer.from_pretrained(plain).optimize(getattr(AutoOptimizationConfig, kind.upper())(), folder)


if __name__ == "__main__":
    make(sys.argv[2], sys.argv[1].removeprefix("optimum-"))
