"""``propetl import``: a checkpoint of the reference implementation to a bundle."""
# ruff: noqa: N999  # called like its command; modules of commands are imported by name only

from pathlib import Path
from typing import TYPE_CHECKING, get_args

import click
from rich.console import Console
from rich.markup import escape

from propetl.cli.pickle_option import pickle_option
from propetl.prototypes.spec import Combination

if TYPE_CHECKING:
    from propetl.reference_import.options import Imported


@click.command("import", short_help="Turn a checkpoint of the paper's code into a bundle.")
@click.argument("checkpoint", type=click.Path(path_type=Path))
@click.option("-o", "--output", required=True, type=click.Path(path_type=Path), help="Bundle folder to write.")
@click.option("--backbone", help="Hub name, folder or package:MODULE/FOLDER.  [default: the checkpoint's]")
@pickle_option
@click.option("--task", help="Name of the task in the bundle.  [default: the checkpoint's]")
@click.option("--column", "columns", multiple=True, help="Text column of a task that is not GLUE's; may be repeated.")
@click.option("--sparsity", type=float, help="Share kept, where masks stand in the file as scores without it.")
@click.option(
    "--combine",
    type=click.Choice(get_args(Combination)),
    help="How T5's layer and task masks become one.  [default: or]",
)
@click.option("--max-length", type=int, default=128, show_default=True, help="Tokens to which texts are truncated.")
@click.option("--overwrite", is_flag=True, help="Replace the bundle that is there.")
def command(
    checkpoint: Path,
    output: Path,
    backbone: str | None,
    allow_pickle: bool | None,
    task: str | None,
    columns: tuple[str, ...],
    sparsity: float | None,
    combine: Combination | None,
    max_length: int,
    overwrite: bool,
) -> None:
    """Read CHECKPOINT, which the paper's own code saved, and write it as a bundle.

    It is the folder of an encoder's task, or T5's propetl_weight.bin, which holds all of its tasks.

    Nothing in it is unpickled. What has no place in a bundle, and what the checkpoint does not say, is printed.

    \b
    Examples:
      propetl import checkpoints/rte/adapter/run1 -o rte-bundle --backbone roberta-base
      propetl import mine/reviews -o reviews --backbone roberta-base --column text
      propetl import outputs/glue/propetl_weight.bin -o glue --backbone t5-base
    """  # noqa: D301 (click looks for the control character)
    from propetl.reference_import.convert import import_checkpoint
    from propetl.reference_import.options import ImportOptions

    options = ImportOptions(backbone, task, columns, sparsity, combine, max_length, overwrite, bool(allow_pickle))
    with Console(stderr=True).status("import") as status:
        imported = import_checkpoint(checkpoint, output, options, status.update)
    _show(imported)
    Console().print(escape(f"written to {output}"), soft_wrap=True)


def _show(imported: "Imported") -> None:
    info, console = imported.info, Console()
    method = info.prototype
    kept = f", keeps {method.sparsity:g}" if method.masked else ""
    masks = f", {method.masks} masks" if method.masks != "layer" else ""
    head = f"; head {info.head}" if any(task.outputs for task in info.tasks.values()) else ""
    console.print(escape(f"{method.method}, {method.sharing}{masks}{kept}{head}; {', '.join(info.tasks)}"))
    for line in imported.assumed:
        console.print(escape(f"not said by the checkpoint: {line}"), soft_wrap=True)
    if imported.not_mapped:
        console.print(f"not mapped, {len(imported.not_mapped)} tensors:")
        for name in imported.not_mapped:
            console.print(escape(f"  {name}"), soft_wrap=True)
    else:
        console.print("every tensor was mapped")
