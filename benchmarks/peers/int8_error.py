"""How far int8 moves logits of trained tasks: ours and optimum-onnx's, on the same folded graphs and the same rows.

    python benchmarks/peers/int8_error.py BUNDLE ARTIFACT DATA [--environments .venv-peers-] [--rows 300]

A metric counts answers that changed sides, a few rows of a small development set; the error of logits counts every row.
ARTIFACT is the bundle's folded graphs in fp32. Written to ``benchmarks/results/peers_int8_error.json``: for each task
and quantiser the root mean square of what changed in a logit, as a share of the logits' standard deviation (a row's
mean taken off where a task has classes), and how many answers changed. Six minutes.
"""

import json
import tempfile
from dataclasses import asdict
from pathlib import Path

import numpy as np
from int8_loss import RESULTS, optimum_copy, parser_of
from numpy.typing import NDArray

from propetl.data.tables import load_split
from propetl.data.tasks import TASKS
from propetl.export.options import ExportOptions
from propetl.export.writer import export_bundle
from propetl.runtime import Session
from propetl.runtime.bench.conditions import conditions_now
from propetl.runtime.rows import Text

Logits = NDArray[np.float32]


def main() -> None:
    """Quantises twice, compares, writes and prints."""
    parser = parser_of(__doc__)
    parser.add_argument("--rows", type=int, default=300, help="of each task's development rows (default: 300)")
    asked = parser.parse_args()
    expected = _logits(asked.artifact, asked.data, asked.rows)
    found = {}
    with tempfile.TemporaryDirectory() as folder:
        ours, theirs = Path(folder) / "ours", Path(folder) / "optimum"
        export_bundle(asked.bundle, ours, ExportOptions(forms=("folded",), quantize="int8", max_drop=100))
        optimum_copy(asked.artifact, theirs, asked.environments)
        for path in (ours, theirs):
            logits = _logits(path, asked.data, asked.rows)
            found[path.name] = {task: _error(logits[task], expected[task]) for task in expected}
    report = {"rows": asked.rows, "errors": found, "conditions": asdict(conditions_now(eager=False))}
    (RESULTS / "peers_int8_error.json").write_text(json.dumps(report, indent=2) + "\n")
    for name, tasks in found.items():
        errors = "  ".join(f"{task} {one['error']:.3f} ({one['changed']})" for task, one in tasks.items())
        print(f"{name:8} mean {np.mean([one['error'] for one in tasks.values()]):.3f}: {errors}")


def _logits(artifact: Path, data: str, rows: int) -> dict[str, Logits]:
    """``[rows, outputs]`` of every task."""
    with Session.open(artifact, threads=1) as session:
        return {task: session.run(task, _texts(task, data, rows)) for task in session.tasks}


def _texts(task: str, data: str, rows: int) -> list[Text]:
    texts = load_split(TASKS[task], data, "dev", rows).texts
    return [text[0] if len(text) == 1 else (text[0], text[1]) for text in texts]


def _error(found: Logits, expected: Logits) -> dict[str, float]:
    moved = float(np.sqrt(np.mean((_centred(found) - _centred(expected)) ** 2)))
    changed = int((found.argmax(1) != expected.argmax(1)).sum())
    return {"error": moved / float(_centred(expected).std()), "changed": changed}


def _centred(logits: Logits) -> Logits:
    """What decides between classes; the one logit of a regression as it is."""
    return logits - logits.mean(1, keepdims=True) if logits.shape[1] > 1 else logits


if __name__ == "__main__":
    main()
