"""What commands that build engines show: two bars while they work, and a table of the engines."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from rich.table import Table

from propetl.export.tensorrt_engines.options import TensorRTOptions
from propetl.runtime.engine_records import EngineInfo
from propetl.runtime.manifest import Manifest

Report = Callable[[str], None]
ReportBuild = Callable[[str, float], None]


@contextmanager
def progress_bars(what: str, done: str, steps: int, verbose: bool) -> Iterator[tuple[Report, ReportBuild]]:
    """A function to be called with each step, and one with phase and share of an engine's build.

    Args:
        what: is being done.
        done: what the bar says at the end.
        steps: how many are expected; the bar grows with those that come beside them.
        verbose: print lines of detail, those that start with two blanks.
    """
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    console = Console(stderr=True)
    with Progress(*columns, console=console) as progress:
        bar = progress.add_task(what, total=steps)
        building = progress.add_task("engine", total=100, visible=False)
        begun = 0

        def report(line: str) -> None:
            nonlocal begun
            if not line.startswith("  "):
                begun += 1
                progress.update(bar, completed=begun - 1, total=max(steps, begun), description=line)
            elif verbose:
                console.print(line, highlight=False)

        def report_build(phase: str, share: float) -> None:
            progress.update(building, completed=100 * share, description=f"  {phase}", visible=True)

        yield report, report_build
        progress.update(building, visible=False)
        progress.update(bar, completed=begun, total=begun, description=done)


def build_steps(options: TensorRTOptions | None, graphs: int) -> int:
    """Steps of building engines of so many graphs: a check for each target, and every engine."""
    if options is None:
        return 0
    return len(options.targets) * (1 + len(options.precisions) * graphs)


def engines_table(manifest: Manifest) -> Table:
    """One row for each engine."""
    table = Table(title="Engines")
    for title in ("target", "graph", "precision", "GPUs", "bytes", "seconds"):
        table.add_column(title, justify="right" if title in ("bytes", "seconds") else "left")
    for engine in manifest.engines:
        target, size = f"{engine.target} {engine.version}", f"{manifest.files[engine.path]['bytes']:,}"
        gpus = ", ".join(f"SM {capability}" for capability in engine.compute_capabilities)
        table.add_row(target, str(engine.name), engine.precision, gpus, size, f"{engine.build_seconds:.1f}")
        for task, path in engine.refits.items():
            size = f"{manifest.files[path]['bytes']:,}"
            table.add_row("  weights", f"{engine.form}/{task}", engine.precision, "", size, "")
    return table


def profiles_line(engines: tuple[EngineInfo, ...]) -> str:
    """The shapes that ``engines`` take, each profile once."""
    profiles = dict.fromkeys(str(profile) for engine in engines for profile in engine.profiles)
    return "profiles (smallest/best/largest): " + "; ".join(profiles)
