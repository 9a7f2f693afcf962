"""``propetl reproduce``: a named set of experiments over seeds, and the paper's table with ours beside it."""

from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from propetl.cli.json_output import check_output_file, json_option, write_json
from propetl.cli.pickle_option import pickle_option
from propetl.errors import ConfigurationError

if TYPE_CHECKING:
    from propetl.reproduce.sets import SetsFile

DEFAULT_CONFIGS = Path("examples/paper")
DEFAULT_OUTPUT = Path("runs/paper")


@click.command("reproduce", short_help="Run a set of the paper's experiments.")
@click.argument("name", metavar="[SET]", required=False)
@click.option(
    "--configs",
    type=click.Path(path_type=Path),
    default=DEFAULT_CONFIGS,
    show_default=True,
    help="Folder of sets.yaml.",
)
@click.option(
    "-o",
    "--output",
    type=click.Path(path_type=Path),
    default=DEFAULT_OUTPUT,
    show_default=True,
    help="Folder of all runs; sets share what they have in common.",
)
@click.option("--data", metavar="SOURCE", help="Folder with a folder per task, or hub:OWNER/SET.")
@click.option("--seeds", metavar="N,N,…", help="Instead of the set's.")
@click.option("--row", "rows", multiple=True, help="Only this experiment; may be repeated.")
@click.option("--task", "tasks", multiple=True, help="Only this task; may be repeated.")
@click.option("--backbone", help="Instead of the configurations'.")
@pickle_option
@click.option("--max-steps", type=int, help="Optimizer steps of each run.")
@click.option("--set", "settings", multiple=True, metavar="KEY=VALUE", help="Any key of every configuration.")
@click.option("--only-table", is_flag=True, help="Train nothing; show what has been run.")
@click.option("--markdown", is_flag=True, help="Print the table as Markdown.")
@json_option
def command(
    name: str | None,
    configs: Path,
    output: Path,
    seeds: str | None,
    rows: tuple[str, ...],
    tasks: tuple[str, ...],
    settings: tuple[str, ...],
    only_table: bool,
    markdown: bool,
    json_file: str | None,
    **given: Any,
) -> None:
    """Run the experiments of SET over seeds and print the paper's table with ours beside it; or list the sets.

    Runs that have ended are not repeated, and one that was killed goes on: give the same command again. Every run
    leaves a bundle in OUTPUT/EXPERIMENT/seed-N; SET.json and SET.md stand in OUTPUT.

    \b
    Examples:
      propetl reproduce
      propetl reproduce glue-roberta --data data/glue
      propetl reproduce glue-roberta --row ProAdapter --task rte --seeds 42 --max-steps 200
      propetl reproduce glue-roberta --only-table --markdown
      torchrun --nproc-per-node 2 -m propetl reproduce glue-t5
    """  # noqa: D301 (click looks for the control character)
    from propetl.reproduce.plan import ReproduceOptions, check_runs
    from propetl.reproduce.sets import read_sets
    from propetl.training.config_file import parse_settings

    check_output_file("--json", json_file, configs)
    sets = read_sets(configs)
    if name is None:
        Console().print(_list(sets))
        return
    overrides = {**parse_settings(settings), **{key: value for key, value in given.items() if value is not None}}
    options = ReproduceOptions(output, _numbers(seeds), tasks, rows, overrides)
    check_runs(sets.get(name), sets.folder, options)

    # PyTorch takes seconds: a wrong configuration is refused before.
    from propetl.reproduce.run import reproduce
    from propetl.reproduce.table import caption, markdown_table, rich_table
    from propetl.training.processes import is_first_process

    results = reproduce(sets, name, options, only_results=only_table, console=Console(stderr=True))

    def show() -> None:
        if markdown:
            click.echo(markdown_table(results), nl=False)
        else:
            Console().print(rich_table(results))
            Console().print(escape(caption(results)), highlight=False)

    if is_first_process():
        write_json(results.to_json(), json_file, show)


def _numbers(text: str | None) -> tuple[int, ...]:
    try:
        return () if text is None else tuple(dict.fromkeys(int(part) for part in text.split(",")))
    except ValueError as error:
        raise ConfigurationError(f"--seeds {text!r}: write whole numbers with commas between, such as 42,43") from error


def _list(sets: "SetsFile") -> Table:
    table = Table(title=f"Sets in {escape(str(sets.folder))}")
    for heading in ("set", "experiments", "seeds", "what"):
        table.add_column(heading)
    for name, one in sets.sets.items():
        rows = ", ".join(row.name for row in one.rows)
        table.add_row(name, escape(rows), ", ".join(map(str, one.seeds)), escape(one.title))
    return table
