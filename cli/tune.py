"""``propetl tune``: graphs optimised and weights packed for the CPU of this device."""

from pathlib import Path

import click
from rich.console import Console


@click.command("tune", short_help="Optimise an artifact for this device.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("-v", "--verbose", is_flag=True, help="Print each graph.")
def command(artifact: Path, verbose: bool) -> None:
    """Leave in ARTIFACT/tuned graphs that start faster and share their memory, for the CPU of this device.

    They are used on this device only: with another version of ONNX Runtime, or on a CPU with other features,
    sessions say so and run the artifact's own graphs.

    \b
    Example:
      propetl tune artifact
    """  # noqa: D301 (click looks for the control character)
    from propetl.runtime.tuning import tune

    console = Console()
    changed = tune(artifact, lambda line: console.print(line, highlight=False) if verbose else None)
    console.print(f"{'tuned' if changed else 'was tuned already'}: {artifact / 'tuned'}", soft_wrap=True)
