"""``propetl bench``: measures an artifact."""

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, Progress, TaskProgressColumn, TextColumn, TimeRemainingColumn

from propetl.cli.json_output import check_output_file, json_option, write_json
from propetl.cli.pickle_option import pickle_option
from propetl.cli.provider_options import provider_options
from propetl.runtime.bench import steps
from propetl.runtime.bench.plan import BenchOptions, plan_of
from propetl.runtime.bench.plot import check_plot, write_plot
from propetl.runtime.bench.run import run_bench
from propetl.runtime.bench.table import print_report

_FULL = BenchOptions()
_QUICK = BenchOptions(batches=(1,), usual_sequences=(16, 128), rounds=3, seconds=0.15)


class NumberList(click.ParamType[tuple[int, ...]]):
    """Whole numbers, separated by commas."""

    name = "N,N,…"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> tuple[int, ...]:
        if isinstance(value, tuple):
            return value
        try:
            return tuple(dict.fromkeys(int(number) for number in str(value).split(",")))
        except ValueError:
            self.fail(f"{value!r} is not a list of whole numbers such as 1,8", param, ctx)


@click.command("bench", short_help="Measure an artifact.")
@click.argument("artifact", type=click.Path(path_type=Path), metavar="OUT")
@click.option("--form", "forms", multiple=True, help="Form to measure; may be repeated.  [default: all there are]")
@click.option("--batch", "batches", type=NumberList(), help="Batch sizes.  [default: 1,8]")
@click.option("--seq", "sequences", type=NumberList(), help="Lengths.  [default: 16,64,128; of prompts 64]")
@click.option("--new-tokens", type=int, help="Of each call, for answers in text.  [default: 32]")
@click.option("--beams", type=int, help="Of a beam search, for answers in text.  [default: 1]")
@click.option("--threads", type=int, default=_FULL.threads, show_default=True, help="Inside one operator.")
@click.option("--task", help="Task of all calls but those that switch; the first by default.")
@click.option("--rounds", type=int, help=f"Times that every figure is taken.  [default: {_FULL.rounds}]")
@click.option("--seconds", type=float, help=f"Per round, runtime, batch and length.  [default: {_FULL.seconds}]")
@click.option("--bundle", type=click.Path(path_type=Path), help="Adds PyTorch eager, on the bundle exported here.")
@pickle_option
@provider_options
@click.option("--quick", is_flag=True, help="Batch 1, lengths 16 and 128, 3 short rounds: rough, in 20 s.")
@json_option
@click.option("--plot", "plot_path", type=click.Path(path_type=Path), help="Draw latency; .png, .svg, .pdf.")
def command(
    artifact: Path,
    forms: tuple[str, ...],
    batches: tuple[int, ...] | None,
    sequences: tuple[int, ...] | None,
    new_tokens: int | None,
    beams: int | None,
    threads: int,
    task: str | None,
    rounds: int | None,
    seconds: float | None,
    bundle: Path | None,
    allow_pickle: bool | None,
    provider: str,
    device: int,
    precision: str | None,
    engine_cache: Path | None,
    quick: bool,
    json_file: str | None,
    plot_path: Path | None,
) -> None:
    """Measure the artifact in folder OUT: latency, start, memory, and what tasks cost; of answers in text also tokens.

    Every form runs in a process of its own, and so does the bare backbone if it was exported (--form bare);
    they take turns, round by round. Use an idle machine.

    \b
    Examples:
      propetl bench demo/artifact
      propetl bench demo/artifact --form folded --form bank --batch 1,8 --seq 64
      propetl bench demo/artifact --bundle demo/bundle --json bench.json --plot bench.png
      propetl bench t5/artifact --bundle t5/bundle --seq 64,256 --new-tokens 48
    """  # noqa: D301 (click looks for the control character)
    given: dict[str, Any] = {"batches": batches, "sequences": sequences, "rounds": rounds, "seconds": seconds}
    chosen = {name: value for name, value in given.items() if value is not None}
    options = replace(
        _QUICK if quick else _FULL,
        forms=forms,
        new_tokens=new_tokens,
        beams=beams,
        threads=threads,
        task=task,
        bundle=bundle,
        allow_pickle=bool(allow_pickle),
        provider=provider,
        device=device,
        precision=precision,
        engine_cache=engine_cache,
        **chosen,
    )
    check_output_file("--json", json_file, artifact, bundle)
    check_output_file("--plot", plot_path, artifact, bundle)
    if plot_path is not None:
        check_plot(plot_path)
    plan = plan_of(artifact, options)
    with _progress_bar() as progress:
        report = run_bench(plan, progress)
    write_json(report.to_json(), json_file, lambda: print_report(Console(), report))
    if plot_path is not None:
        write_plot(report, plot_path)


@contextmanager
def _progress_bar() -> Iterator[steps.Progress]:
    """A bar with the time left on stderr; it goes when the work is done."""
    columns = (BarColumn(), TaskProgressColumn(), TimeRemainingColumn(), TextColumn("{task.description}"))
    with Progress(*columns, console=Console(stderr=True), transient=True, speed_estimate_period=60) as bar:
        shown = bar.add_task("starting", total=None)

        def progress(what: str, done: float, total: float) -> None:
            bar.update(shown, description=what, completed=done, total=total)

        yield progress
