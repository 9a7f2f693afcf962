"""``propetl data``: writes the generated tasks."""

from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from propetl.data.generated import DEV_ROWS, GENERATED, SEED, TRAIN_ROWS, write_generated
from propetl.data.tables import Rows, load_split
from propetl.task import TaskSpec

EXAMPLES = 2
"""Rows shown per task."""


@click.command("data", short_help="Write the generated tasks.")
@click.argument("folder", type=click.Path(path_type=Path))
@click.option(
    "--task",
    "tasks",
    multiple=True,
    help=f"One of {', '.join(GENERATED)}; may be repeated.  [default: all]",
)
@click.option("--train-rows", type=click.IntRange(min=1), default=TRAIN_ROWS, show_default=True)
@click.option("--dev-rows", type=click.IntRange(min=1), default=DEV_ROWS, show_default=True)
@click.option("--seed", type=int, default=SEED, show_default=True, help="The same seed gives the same rows anywhere.")
def command(folder: Path, tasks: tuple[str, ...], train_rows: int, dev_rows: int, seed: int) -> None:
    """Write the generated tasks to FOLDER as TASK/train.tsv and TASK/dev.tsv, laid out like GLUE.

    FOLDER is new, empty, or written by this command before.

    \b
    Example:
      propetl data demo/data --task verdict --task likeness --train-rows 2000
    """  # noqa: D301 (click looks for the control character)
    tasks = tuple(dict.fromkeys(tasks)) or tuple(GENERATED)
    write_generated(folder, tasks, train_rows, dev_rows, seed)
    splits = {name: [load_split(GENERATED[name], folder, split) for split in ("train", "dev")] for name in tasks}
    console = Console()
    console.print(_summary(splits))
    for name, (train, _) in splits.items():
        _show_examples(console, GENERATED[name], train)
    console.print(f"written to {escape(str(folder))}, seed {seed}", soft_wrap=True)


def _summary(splits: dict[str, list[Rows]]) -> Table:
    table = Table(title="Generated tasks")
    for title in ("task", "input", "labels", "metric"):
        table.add_column(title)
    for title in ("train rows", "dev rows"):
        table.add_column(title, justify="right")
    for name, (train, dev) in splits.items():
        spec = GENERATED[name]
        labels = ", ".join(spec.labels) or f"{train.labels.min():g} to {train.labels.max():g}"
        kind = "pair" if len(spec.columns) == 2 else "single"
        table.add_row(name, kind, labels, spec.metric, f"{len(train):,}", f"{len(dev):,}")
    return table


def _show_examples(console: Console, spec: TaskSpec, rows: Rows) -> None:
    for texts, label in zip(rows.texts[:EXAMPLES], rows.labels[:EXAMPLES], strict=True):
        shown = spec.labels[int(label)] if spec.labels else f"{label:g}"
        console.print(
            f"[bold]{spec.name}[/bold]  {escape(' | '.join(texts))}  → [green]{shown}[/green]", soft_wrap=True
        )
