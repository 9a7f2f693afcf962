"""The floor: operations and bytes of an inference, what this machine can do at most, and what the forms take beside it.

    python benchmarks/floor.py [--threads 1] [--work .bench]    # about two minutes; writes results/floor.json, floor.md

The floor of a cell is the longer of two times: its operations at the measured rate of matrix multiplication, and its
weights at the measured bandwidth of memory. Counted are the matrix products of the encoder; embeddings, normalisations,
activations and softmax are not, so no implementation can reach the floor.
"""

import argparse
import json
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path

import numpy as np
from onnx import TensorProto, helper, numpy_helper
from ratios import FORMS, TASKS, Bench
from side_by_side import Runtime, SideBySide

from propetl.runtime.bench.conditions import conditions_now
from propetl.runtime.bench.messages import Cell
from propetl.runtime.engines.ort import onnxruntime_of

RESULTS = Path(__file__).parent / "results"
FLOAT = 4


@dataclass(frozen=True)
class Encoder:
    """Sizes of a backbone with adapters after each feed-forward part."""

    name: str
    layers: int
    hidden: int
    inner: int
    bottleneck: int

    def backbone_ops(self, cell: Cell) -> int:
        """Multiplications and additions of the matrix products of one inference."""
        tokens = cell.batch * cell.sequence
        projections = 4 * self.hidden**2 + 2 * self.hidden * self.inner
        attention = 2 * cell.sequence * self.hidden  # queries by keys, weights by values
        return 2 * tokens * self.layers * (projections + attention)

    def adapter_ops(self, cell: Cell) -> int:
        """What an adapter adds, masked or not: zeros are multiplied like any number."""
        return 2 * cell.batch * cell.sequence * self.layers * 2 * self.hidden * self.bottleneck

    @property
    def weight_bytes(self) -> int:
        """Bytes of the encoder's matrices, read once for each inference."""
        return FLOAT * self.layers * (4 * self.hidden**2 + 2 * self.hidden * self.inner)

    @property
    def adapter_entries(self) -> int:
        """Weights of the adapters of all layers."""
        return self.layers * 2 * self.hidden * self.bottleneck

    def mask_bytes(self, form: str, rows: int = 1) -> int:
        """Bytes that masks move beside the weights that run.

        Args:
            form: ``folded`` and ``staged`` move nothing more; ``switch`` is what one switch of the staged form
                moves, ``mixed`` what a batch of ``rows`` different tasks does, ``one graph`` what every inference of
                the one-graph form does.
            rows: of the batch.
        """
        unpacked = FLOAT * self.adapter_entries
        # Read bits, write floats; read these and the prototype, write products; read products, write them transposed.
        applied = self.adapter_entries // 8 + unpacked + 3 * unpacked + 2 * unpacked
        return {
            "folded": 0,
            "staged": 0,
            "switch": applied,
            "mixed": 2 * rows * unpacked,
            "one graph": applied,
            "one graph, mixed": rows * applied,
        }[form]


MINILM = Encoder("MiniLM-L6-H384", 6, 384, 1536, 32)
ROBERTA = Encoder("RoBERTa-base", 12, 768, 3072, 64)
CELLS = (Cell(1, 16), Cell(1, 64), Cell(1, 128), Cell(8, 16), Cell(8, 128))


@dataclass(frozen=True)
class Ceilings:
    """What the machine does at most.

    Attributes:
        gemm: operations per second of matrix products of the model's sizes, with weights pre-packed.
        bandwidth: bytes per second of copying, read and written.
    """

    gemm: float
    bandwidth: float

    def floor_ms(self, encoder: Encoder, cell: Cell) -> float:
        """The longer of computing and of reading the weights."""
        return 1e3 * max(encoder.backbone_ops(cell) / self.gemm, encoder.weight_bytes / self.bandwidth)


def main() -> None:
    """Measures, prints and writes."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for what is made and used again")
    asked = parser.parse_args()
    conditions = conditions_now(eager=False)
    ceilings = Ceilings(gemm_rate(asked.threads), bandwidth())
    bench = Bench(asked.work)
    found = measured(bench, asked.threads)
    report = {"ceilings": asdict(ceilings), "threads": asked.threads, "ms": found, "conditions": asdict(conditions)}
    RESULTS.mkdir(exist_ok=True)
    (RESULTS / "floor.json").write_text(json.dumps(report, indent=2) + "\n")
    text = as_markdown(ceilings, found, asked.threads, conditions.cpu)
    (RESULTS / "floor.md").write_text(text)
    print(text)


def gemm_rate(threads: int, seconds: float = 2.0) -> float:
    """Operations per second of the best of several products with constant weights, by ONNX Runtime."""
    return max(_gemm(rows, 384, 1536, threads, seconds / 3) for rows in (128, 512, 1024))


def bandwidth(megabytes: int = 256, repeats: int = 7) -> float:
    """Bytes per second, read and written, of copying far more than caches hold; best of several, one thread."""
    source = np.ones(megabytes << 17, dtype=np.float64)
    target = np.empty_like(source)
    return 2 * source.nbytes / min(_seconds(lambda: np.copyto(target, source)) for _ in range(repeats))


def measured(bench: Bench, threads: int) -> dict[str, dict[str, float]]:
    """Median milliseconds of each form by cell, on MiniLM."""
    runtimes = {form: Runtime(bench.artifact, form) for form in FORMS}
    found = {}
    with SideBySide(runtimes, bench.artifact, threads, TASKS[0]) as alive:
        for cell in CELLS:
            medians = alive.medians(cell, 0.5, 5)
            found[f"{cell.batch} × {cell.sequence}"] = {
                form: float(np.median(values)) / 1e6 for form, values in medians.items()
            }
    return found


def as_markdown(ceilings: Ceilings, found: dict[str, dict[str, float]], threads: int, cpu: str) -> str:
    """A table of MiniLM's cells: floor, forms, and how often the floor each takes."""
    lines = [
        f"Ceilings of {cpu}, {threads} thread{'s' if threads > 1 else ''}: {ceilings.gemm / 1e9:.0f} GFLOP/s in matrix "
        f"products, {ceilings.bandwidth / 1e9:.1f} GB/s of memory.",
        "",
        "| batch × sequence | GFLOP | floor, ms | " + " | ".join(f"{form}, ms (to floor)" for form in FORMS) + " |",
        "|---|---|---|" + "---|" * len(FORMS),
    ]
    for cell, (name, times) in zip(CELLS, found.items(), strict=True):
        floor = ceilings.floor_ms(MINILM, cell)
        forms = " | ".join(f"{times[form]:.2f} ({times[form] / floor:.2f})" for form in FORMS)
        lines.append(f"| {name} | {MINILM.backbone_ops(cell) / 1e9:.2f} | {floor:.2f} | {forms} |")
    return "\n".join(lines) + "\n"


def _gemm(rows: int, inner: int, columns: int, threads: int, seconds: float) -> float:
    weights = numpy_helper.from_array(np.random.default_rng(0).random((inner, columns), dtype=np.float32), "w")
    given = helper.make_tensor_value_info("x", TensorProto.FLOAT, [rows, inner])
    result = helper.make_tensor_value_info("y", TensorProto.FLOAT, [rows, columns])
    graph = helper.make_graph([helper.make_node("MatMul", ["x", "w"], ["y"])], "gemm", [given], [result], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=10)
    runtime = onnxruntime_of("cpu")
    options = runtime.SessionOptions()
    options.intra_op_num_threads = threads
    session = runtime.InferenceSession(model.SerializeToString(), options, providers=["CPUExecutionProvider"])
    feeds = {"x": np.ones((rows, inner), dtype=np.float32)}
    end, best = time.perf_counter() + seconds, float("inf")
    while time.perf_counter() < end:
        best = min(best, _seconds(lambda: session.run(None, feeds)))
    return 2 * rows * inner * columns / best


def _seconds(call: Callable[[], object]) -> float:
    start = time.perf_counter()
    call()
    return time.perf_counter() - start


if __name__ == "__main__":
    main()
