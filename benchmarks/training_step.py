"""What masks cost in a training step: against unshared adapters, the reference's full sort, and torch.compile.

    python benchmarks/training_step.py OUT.json [--batch 16] [--sequence 128] [--rounds 7] [--threads 2] [--compile]

A step is forward, backward and AdamW over the groups of parameters that training uses, on MiniLM with bottleneck 32.
Variants take turns, a few steps each, so that a drift of the machine hits all alike; a ratio is taken within a round.

    unshared        an adapter of its own at every layer, no masks: what PEFT or AdapterHub train
    masked          one prototype, a mask for each layer: the top-k of |score| by selection
    masked, sorted  the same by the reference's way: a full sort of every mask's scores in every step
    compiled        ``masked`` and ``unshared`` under ``torch.compile`` (with --compile)
"""

import argparse
import json
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import asdict, replace
from pathlib import Path

import numpy as np
import torch
from random_tasks import ADAPTER, BACKBONE
from torch import Tensor

import propetl.masks as masks
from propetl.backbone import load_backbone
from propetl.model import ProPETLModel
from propetl.runtime.bench.conditions import conditions_now
from propetl.task import TaskSpec
from propetl.training.config import TrainConfig
from propetl.training.trainer import parameter_groups

TASK = TaskSpec("task", ("text",), labels=("no", "yes"))
Step = Callable[[], float]


def main() -> None:
    """Measures, prints and writes."""
    asked = _arguments()
    torch.set_num_threads(asked.threads)
    steps = dict(variants(asked.batch, asked.sequence, asked.compile))
    for step in steps.values():
        step()
        step()
    taken: dict[str, list[float]] = {name: [] for name in steps}
    for _ in range(asked.rounds):
        for name, step in steps.items():
            taken[name].append(float(np.median([step() for _ in range(asked.steps)])))
    report = {
        "ms": taken,
        "to_unshared": {
            name: [one / other for one, other in zip(times, taken["unshared"], strict=True)]
            for name, times in taken.items()
        },
        "masks_alone_ms": masks_alone(),
        "batch": asked.batch,
        "sequence": asked.sequence,
        "threads": asked.threads,
        "conditions": asdict(conditions_now(eager=True)),
    }
    asked.out.write_text(json.dumps(report, indent=2) + "\n")
    for name, ratios in report["to_unshared"].items():
        spread = f"{min(ratios):.3f} to {max(ratios):.3f}"
        print(f"{name:18} {np.median(taken[name]):8.1f} ms  {np.median(ratios):.3f} ({spread})")
    print("masks alone:", ", ".join(f"{name} {value:.2f} ms" for name, value in report["masks_alone_ms"].items()))


def variants(batch: int, sequence: int, compiled: bool) -> Iterator[tuple[str, Step]]:
    """A function for each variant that makes one step and gives its milliseconds."""
    for name, sharing in (("unshared", "unshared"), ("masked", "masked")):
        model = new_model(sharing)
        yield name, step_of(model, model, batch, sequence)
        if compiled:
            model = new_model(sharing)
            yield f"{name}, compiled", step_of(model, torch.compile(model), batch, sequence)
    model = new_model("masked")
    plain = step_of(model, model, batch, sequence)

    def sorted_step() -> float:
        with sorting():
            return plain()

    yield "masked, sorted", sorted_step


def new_model(sharing: str) -> ProPETLModel:
    """MiniLM with fresh weights of the method, frozen but for them."""
    config = replace(ADAPTER, sharing=sharing)
    return ProPETLModel(load_backbone(BACKBONE), config, tasks={"task": TASK}).train()


def step_of(model: ProPETLModel, run: Callable, batch: int, sequence: int) -> Step:
    """Forward, backward and one update of what trains."""
    config = TrainConfig(backbone=BACKBONE, tasks=["task"], data="unused", output=Path("unused"))
    optimizer = torch.optim.AdamW(parameter_groups(model, config), lr=config.rate)
    ids = torch.randint(1000, 20000, (batch, sequence))
    inputs = {"input_ids": ids, "attention_mask": torch.ones_like(ids), "labels": torch.randint(0, 2, (batch,))}

    def step() -> float:
        start = time.perf_counter()
        run("task", **inputs).loss.backward()
        optimizer.step()
        optimizer.zero_grad()
        return 1e3 * (time.perf_counter() - start)

    return step


@contextmanager
def sorting() -> Iterator[None]:
    """Masks by the reference's way: all scores are sorted in every step."""
    selecting = masks.top_k_mask
    masks.top_k_mask = sorted_mask
    try:
        yield
    finally:
        masks.top_k_mask = selecting


def sorted_mask(magnitudes: Tensor, kept: int) -> Tensor:
    """The ``kept`` largest along the last axis, by a full sort of each row: bool ``[..., n]``."""
    mask = torch.ones_like(magnitudes, dtype=torch.bool)
    for row, values in zip(mask, magnitudes, strict=True):
        _, order = values.sort()
        row[order[: len(values) - kept]] = False
    return mask


def masks_alone(repeats: int = 50) -> dict[str, float]:
    """Median milliseconds of the masks of one tensor of all layers, forward only."""
    scores = torch.rand(6, 32 * 384)
    kept = masks.kept_count(scores.shape[1], ADAPTER.sparsity)
    ways = {"selection": masks.top_k_mask, "full sort": sorted_mask}
    return {name: float(np.median([_timed(way, scores, kept) for _ in range(repeats)])) for name, way in ways.items()}


def _timed(way: Callable, scores: Tensor, kept: int) -> float:
    start = time.perf_counter()
    way(scores, kept)
    return 1e3 * (time.perf_counter() - start)


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("out", type=Path, help="JSON file to write")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--sequence", type=int, default=128)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--steps", type=int, default=3, help="steps of a variant in each round")
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--compile", action="store_true", help="also under torch.compile (a minute each to compile)")
    return parser.parse_args()


if __name__ == "__main__":
    main()
