"""``propetl build``: engines from the graphs of an artifact."""

from pathlib import Path

import click
from rich.console import Console

from propetl.cli.build_output import build_steps, engines_table, profiles_line, progress_bars
from propetl.cli.engine_options import engine_options
from propetl.errors import ConfigurationError
from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.engine_records import ENGINE_TARGETS

_CHECKING = 1


@click.command("build", short_help="Build engines from an artifact's graphs.")
@click.argument("artifact", type=click.Path(path_type=Path))
@engine_options
@click.option("-v", "--verbose", is_flag=True, help="Print what each pass did.")
def command(artifact: Path, engines: TensorRTOptions | None, verbose: bool) -> None:
    """Build engines from the graphs of ARTIFACT and add them to it, on the device that is to run them.

    Needs no PyTorch and no bundle. An engine of the same graph, target and precision is replaced; all others stay.

    \b
    Examples:
      propetl build artifact --target tensorrt --precision fp16
      propetl build artifact --target tensorrt-rtx --sm 86,89,120 --profile 1x1/8x64/32x128
    """  # noqa: D301 (click looks for the control character)
    if engines is None:
        raise ConfigurationError(f"say which engines by --target {' or '.join(ENGINE_TARGETS)}")
    # Imported here: building needs an extra.
    from propetl.export.tensorrt_engines.existing import add_engines
    from propetl.runtime.artifact import read_manifest
    from propetl.runtime.graph_names import named_graphs

    graphs = len(named_graphs(read_manifest(artifact).manifest.forms))
    with progress_bars("build", "built", _CHECKING + build_steps(engines, graphs), verbose) as (report, report_build):
        manifest = add_engines(artifact, engines, report, report_build)
    console = Console()
    console.print(engines_table(manifest))
    console.print(profiles_line(manifest.engines), soft_wrap=True, highlight=False)
    console.print(f"added to {artifact}", soft_wrap=True)
