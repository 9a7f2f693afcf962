"""Runs a named set; what has ended before is not repeated."""

from pathlib import Path

from rich.console import Console

from propetl.data.known import specs_of
from propetl.errors import Interrupted
from propetl.files import json_bytes, make_folder
from propetl.output import write_output
from propetl.reproduce.plan import PlannedRun, ReproduceOptions, runs_of
from propetl.reproduce.results import SetResults, results_of
from propetl.reproduce.sets import SetsFile
from propetl.reproduce.table import markdown_table
from propetl.training.folder import RunFolder
from propetl.training.processes import is_first_process
from propetl.training.run import train


def reproduce(
    sets: SetsFile, name: str, options: ReproduceOptions, *, only_results: bool = False, console: Console | None = None
) -> SetResults:
    """Runs the set ``name`` and writes its results into the output folder, anew after every run.

    A run that was killed goes on from its newest checkpoint; one that has ended is left as it is. Of several processes,
    the first one writes and reports.

    Args:
        sets: the file of sets.
        name: of the set.
        options: the user's changes.
        only_results: run nothing.
        console: where progress goes; silent if None.

    Returns:
        Scores over seeds, of the runs that have ended.

    Raises:
        ConfigurationError: a configuration is wrong, or a run folder holds a run with other settings.
    """
    chosen = sets.get(name)
    runs = runs_of(chosen, sets.folder, options)
    metrics = _metrics(runs)
    shown = console if is_first_process() else None
    screen = shown or Console(quiet=True)

    def results() -> SetResults:
        return results_of(name, chosen, runs, metrics, options.overrides)

    for number, run in enumerate(() if only_results else runs, start=1):
        ended = RunFolder(run.config.output).report() is not None
        screen.rule(f"{number} of {len(runs)}: {run}{' (has ended before)' if ended else ''}")
        try:
            train(run.config, resume=True, console=None if ended else shown)
        except Interrupted as stopped:
            raise Interrupted(stopped.number, stopped.what, "give the same command again to go on") from stopped
        if not ended:
            _write(results(), options.output)
    found = results()
    if found.done:
        _write(found, options.output)
    return found


def _metrics(runs: tuple[PlannedRun, ...]) -> dict[str, tuple[str, ...]]:
    """Metrics of every task, in the order in which tasks appear."""
    return {task: spec.metrics for run in runs for task, spec in specs_of(run.config.tasks).items()}


def _write(results: SetResults, output: Path) -> None:
    if not is_first_process():
        return
    make_folder(output)
    write_output(output / f"{results.name}.json", json_bytes(results.to_json()))
    write_output(output / f"{results.name}.md", markdown_table(results).encode())
