"""``propetl validate``: an artifact by itself, or against PyTorch."""

from collections import Counter
from dataclasses import replace
from pathlib import Path

import click
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from propetl.cli.json_output import check_output_file, json_option, write_json
from propetl.cli.provider_options import provider_options
from propetl.errors import CheckFailed, ConfigurationError
from propetl.runtime.report import Comparison, Report
from propetl.runtime.selftest import self_test


@click.command("validate", short_help="Check an artifact.")
@click.argument("artifact", type=click.Path(path_type=Path))
@click.option("--form", help="The only form to look at.  [default: all there are]")
@click.option("--bundle", type=click.Path(path_type=Path), help="Compare with this bundle in PyTorch, too.")
@click.option("--data", help="Real rows to compare on: a data folder, as for train. Goes with --bundle.")
@click.option("--backbone", help="Load the backbone from here instead of from where the bundle says.")
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
    max_rows: int | None,
    json_file: str | None,
    threads: int | None,
    provider: str,
    device: int,
    precision: str | None,
    engine_cache: Path | None,
) -> None:
    """Check ARTIFACT on this machine; exit with 1 if anything is wrong.

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
    if bundle is None and (backbone is not None or max_rows is not None):
        raise ConfigurationError("--backbone and --max-rows go with --bundle and --data; leave them out")
    check_output_file("--json", json_file)
    report = self_test(artifact, form, provider, threads, device=device, engine_cache=engine_cache, precision=precision)
    if bundle is not None and data is not None and report.passed:
        # Imported here: this part needs torch, which a device does not have.
        from propetl.export.parity import compare

        found = compare(
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
            max_rows=max_rows,
        )
        report = replace(report, comparisons=(*report.comparisons, *found))
    _show(report, json_file)
    if not report.passed:
        first, *others = report.breaches
        more = f" (and {len(others)} more)" if others else ""
        raise CheckFailed(f"{artifact} fails: {first}{more}")


def _show(report: Report, json_file: str | None) -> None:
    if not write_json(report.to_json(), json_file):
        return
    console = Console()
    console.print(_checks_table(report))
    if report.comparisons:
        console.print(_comparisons_table(report))
    for check in report.checks:
        if check.passed and check.detail:
            console.print(f"[yellow]![/yellow] {escape(check.breach)}", soft_wrap=True)
    for breach in report.breaches:
        console.print(f"[red]✗[/red] {escape(breach)}", soft_wrap=True)


def _checks_table(report: Report) -> Table:
    table = Table(title=f"{escape(report.artifact)} ({report.precision}, {report.provider})")
    for title in ("check", "passed", "failed"):
        table.add_column(title, justify="left" if title == "check" else "right")
    names = Counter(check.name for check in report.checks)
    failed = Counter(check.name for check in report.checks if not check.passed)
    for name, count in names.items():
        bad = f"[red]{failed[name]}[/red]" if failed[name] else "0"
        table.add_row(escape(name), str(count - failed[name]), bad)
    return table


def _comparisons_table(report: Report) -> Table:
    table = Table(title="Logits against PyTorch")
    for title in ("task", "form"):
        table.add_column(title, overflow="fold")
    for title in ("rows", "largest error", "agreement"):
        table.add_column(title, justify="right")
    table.add_column("metric: PyTorch → artifact")
    table.add_column("")
    for item in report.comparisons:
        table.add_row(*_cells(item))
    return table


def _cells(item: Comparison) -> tuple[str, ...]:
    """The table is for reading: the main metric only; the JSON report has all of them."""
    main = next(iter(item.metrics_reference.items()), None)
    return (
        escape(item.task),
        item.form if item.batching == "batch" else f"{item.form}, {item.batching}",
        str(item.rows),
        f"{item.max_abs:.1e}",
        f"{item.agreement:.1%}",
        "–" if main is None else f"{main[0]} {main[1]:.4f} → {item.metrics_artifact.get(main[0], float('nan')):.4f}",
        "[green]✓[/green]" if item.passed else "[red]✗[/red]",
    )
