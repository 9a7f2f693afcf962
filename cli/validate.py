"""``propetl validate``: an artifact by itself, or against PyTorch."""

from dataclasses import replace
from importlib import import_module
from pathlib import Path

import click
from rich.console import Console

from propetl.cli.json_output import STANDARD_OUTPUT, check_output_file, json_option, write_json
from propetl.cli.pickle_option import pickle_option
from propetl.cli.provider_options import provider_options
from propetl.cli.validate_output import print_report, verdict
from propetl.errors import CheckFailed, ConfigurationError
from propetl.runtime.report import Report
from propetl.runtime.selftest import self_test


@click.command("validate", short_help="Check an artifact.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--form", help="The only form to look at.  [default: all there are]")
@click.option("--bundle", type=click.Path(path_type=Path), help="Compare with this bundle in PyTorch, too.")
@click.option("--data", help="Real rows to compare on: a data folder, as for train. Goes with --bundle.")
@click.option("--backbone", help="Load the backbone from here instead of from where the bundle says.")
@pickle_option
@click.option("--max-rows", type=click.IntRange(min=1), help="Real rows of each task at most.  [default: all]")
@json_option
@click.option("--threads", type=click.IntRange(min=1), help="Threads.  [default: all cores]")
@provider_options
def command(
    artifact: Path,
    form: str | None,
    bundle: Path | None,
    data: str | None,
    backbone: str | None,
    allow_pickle: bool | None,
    max_rows: int | None,
    json_file: str | None,
    threads: int | None,
    provider: str,
    device: int,
    precision: str | None,
    engine_cache: Path | None,
) -> None:
    """Check ARTIFACT on this machine; the last line says PASS or FAIL, and FAIL exits with 1.

    Alone, without PyTorch: hashes of all files, task packs, signatures of the graphs as loaded, and golden
    rows whose answers PyTorch gave at export. With --bundle and --data: every development row by PyTorch and
    by the artifact, largest difference, agreement and the task's metrics side by side.

    \b
    Examples:
      propetl validate out
      propetl validate out --bundle runs/glue/bundle --data data/glue --json report.json
    """  # noqa: D301 (click looks for the control character)
    if (bundle is None) != (data is None):
        raise ConfigurationError("--bundle and --data go together; give both, or neither")
    if bundle is None and any(given is not None for given in (backbone, max_rows, allow_pickle)):
        raise ConfigurationError(
            "--backbone, --max-rows and --allow-pickle go with --bundle and --data; leave them out"
        )
    check_output_file("--json", json_file, artifact, bundle)
    # Imported here: this part needs torch, which a device does not have; before the work, which would end there.
    parity = import_module("propetl.export.parity") if bundle is not None else None
    report = self_test(artifact, form, provider, threads, device=device, engine_cache=engine_cache, precision=precision)
    if parity is not None and report.passed:
        found = parity.compare(
            artifact,
            bundle,
            data,
            form=form,
            provider=provider,
            threads=threads,
            device=device,
            engine_cache=engine_cache,
            precision=precision,
            backbone=backbone,
            allow_pickle=bool(allow_pickle),
            max_rows=max_rows,
        )
        report = replace(report, comparisons=(*report.comparisons, *found))
    _show(report, json_file)
    if not report.passed:
        click.get_current_context().exit(CheckFailed.exit_code)


def _show(report: Report, json_file: str | None) -> None:
    """The verdict comes last, in a line of its own; on stderr where standard output is JSON."""

    def show() -> None:
        print_report(Console(), report)
        click.echo(verdict(report))

    write_json(report.to_json(), json_file, show)
    if json_file == STANDARD_OUTPUT:
        click.echo(verdict(report), err=True)
