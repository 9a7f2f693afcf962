"""The report for people."""

from collections.abc import Iterable
from itertools import groupby

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from propetl.runtime.bench.call_figures import LatencyFigures, StartFigures
from propetl.runtime.bench.memory import Memory
from propetl.runtime.bench.report import MemoryFigures, Report
from propetl.runtime.bench.stats import Spread

_FEW_CALLS = 100
_MIB = 1 << 20
_NAME_WIDTH = 10


def print_report(console: Console, report: Report) -> None:
    """Tables of latency, start, memory and tasks; then conditions and notes."""
    console.print(_generation_table(report) if report.generation else _latency_table(report))
    if report.device:
        console.print(_device_table(report))
    if report.engines:
        console.print(_engine_table(report))
    console.print(_start_table(report))
    console.print(_memory_table(report))
    if report.switching or report.mixed or report.adding:
        console.print(_task_table(report))
    for line in _conditions(report):
        console.print(f"[dim]{escape(line)}[/dim]", soft_wrap=True)
    for note in report.notes:
        console.print(f"[yellow]note:[/yellow] {escape(note)}", soft_wrap=True)


def _latency_table(report: Report) -> Table:
    table = _table("Latency, ms per call", ("runtime",))
    _numbers(table, ("p50", "p90", "p95", "p99", "rows/s", "calls", "÷ bare", "range"))
    for cell, group in groupby(report.latency, lambda figures: (figures.batch, figures.sequence)):
        _heading(table, _where(*cell))
        for figures in group:
            table.add_row(figures.runtime, *_latency_cells(figures))
    if any(figures.latency.calls < _FEW_CALLS for figures in report.latency):
        table.caption = f"~ fewer than {_FEW_CALLS} calls: close to their maximum"
    return table


def _latency_cells(figures: LatencyFigures) -> Iterable[str]:
    latency = figures.latency
    few = "~" if latency.calls < _FEW_CALLS else ""
    yield from (_ms(latency.p50), _ms(latency.p90), _ms(latency.p95), few + _ms(latency.p99))
    yield from (_rate(latency.rows_per_second), f"{latency.calls:,}")
    yield from _ratio_cells(figures.to_bare)


def _generation_table(report: Report) -> Table:
    tokens, beams = report.settings["new_tokens"], report.settings["beams"]
    table = _table(f"Generation of {tokens} tokens, beams: {beams}; ms of a batch", ("runtime",))
    _numbers(table, ("first\ntoken", "\np99", "a step:\np50", "\np90", "\np99", "tokens/s", "÷ eager", "range"))
    for cell, group in groupby(report.generation, lambda figures: (figures.batch, figures.sequence)):
        _heading(table, _where(*cell))
        for item in group:
            times = (item.first.p50, item.first.p99, item.step.p50, item.step.p90, item.step.p99)
            rate = _rate(item.tokens_per_second.median)
            table.add_row(item.runtime, *map(_ms, times), rate, *_ratio_cells(item.to_eager))
    return table


def _device_table(report: Report) -> Table:
    table = _table("On the GPU, ms per batch (median; p99 of the GPU)", ("runtime",))
    _numbers(table, ("copies", "graph", "GPU", "p99", "hand over", "until done"))
    for cell, group in groupby(report.device, lambda figures: (figures.batch, figures.sequence)):
        _heading(table, _where(*cell))
        for item in group:
            ways = ("yes" if item.transfers else "no", "yes" if item.graph else "no")
            times = (item.device.p50, item.device.p99, item.enqueue.p50, item.wall.p50)
            table.add_row(item.runtime, *ways, *map(_ms, times))
    return table


def _engine_table(report: Report) -> Table:
    table = _table("Engines on the GPU", ("runtime",))
    _numbers(table, ("build, s", "first\nload, ms", "load, ms", "MiB\nloaded", "MiB\nrun"))
    for item in report.engines:
        build = "" if item.build_seconds is None else f"{item.build_seconds:.1f}"
        held = ("" if size is None else f"{size / _MIB:.0f}" for size in (item.loaded_bytes, item.run_bytes))
        table.add_row(item.runtime, build, _ms(item.first_load_ms), _ms(item.load_ms), *held)
    return table


def _start_table(report: Report) -> Table:
    table = _table("First answer of a cold process, ms", ("runtime",))
    _numbers(
        table,
        ("files\nhashed", "÷\nimport", "not\nhashed", "÷\nimport", "of it:\nimport", "\nopen", "first\nrun"),
    )
    for name, spread in (("python", report.interpreter), (report.settings["engine_module"], report.engine_import)):
        table.add_row(name, _ms(spread.median), *[""] * 6)
    table.add_section()
    for figures in report.starts:
        table.add_row(figures.runtime, *_start_cells(figures))
    return table


def _start_cells(figures: StartFigures) -> Iterable[str]:
    yield from (_ms(figures.verified.median), _ratio(figures.verified_to_import))
    trusted = figures.trusted
    yield from ("" if trusted is None else _ms(trusted.median), _ratio(figures.trusted_to_import))
    yield from (_ms(figures.imports_ms), _ms(figures.opening_ms), _ms(figures.running_ms))


def _memory_table(report: Report) -> Table:
    table = _table("Memory of the process, MiB (PSS / RSS)", ("runtime",))
    tasks = max((figures.tasks for figures in report.memory), default=1)
    _numbers(table, ("one task loaded", "after running", f"{tasks} tasks run" if tasks > 1 else ""))
    for figures in report.memory:
        table.add_row(figures.runtime, *_memory_cells(figures))
    return table


def _memory_cells(figures: MemoryFigures) -> Iterable[str]:
    stages = figures.stages
    yield from (_mib(stages.loaded), _mib(stages.run))
    yield "" if stages.all_tasks is None else _mib(stages.all_tasks)


def _task_table(report: Report) -> Table:
    table = _table("Tasks", ("runtime",))
    _numbers(table, ("ms", "of a call", "range"))
    for cell, switching in groupby(report.switching, lambda item: (item.batch, item.sequence)):
        _heading(table, f"switching adds, {_where(*cell)}")
        for item in switching:
            span = f"{_percent(item.share.minimum)} to {_percent(item.share.maximum)}"
            table.add_row(item.runtime, f"{item.cost_ms.median:+.3f}", _percent(item.share.median), span)
    for cell, mixing in groupby(report.mixed, lambda item: (item.batch, item.sequence)):
        _heading(table, f"several tasks ÷ one task, {_where(*cell)}")
        for mixed in mixing:
            milliseconds = _ms(mixed.uniform_ms * mixed.to_uniform.median)
            table.add_row(mixed.runtime, milliseconds, *_ratio_cells(mixed.to_uniform))
    for adding in report.adding:
        _heading(table, "adding a task from disk")
        span = f"{_ms(adding.ms.minimum)}–{_ms(adding.ms.maximum)}"
        table.add_row(adding.runtime, _ms(adding.ms.median), "", span)
    return table


def _heading(table: Table, title: str) -> None:
    table.add_section()
    table.add_row(f"[bold]{title}[/bold]")


def _where(batch: int, sequence: int) -> str:
    return f"{batch} × {sequence}"


def _conditions(report: Report) -> Iterable[str]:
    now, settings = report.conditions, report.settings
    flags = f" ({' '.join(now.cpu_flags)})" if now.cpu_flags else ""
    yield f"{now.cpu}{flags}, {now.usable_cores} of {now.cores} cores, {now.memory_bytes / 2**30:.1f} GiB"
    governor = f", governor {now.governor}" if now.governor else ""
    busy = "" if now.busy_cores is None else f", {now.busy_cores:g} cores busy"
    yield f"{now.system}{governor}; before the run: load {now.load_average[0]:.2f}{busy}"
    yield ", ".join(f"{name} {version}" for name, version in now.versions.items())
    yield (
        f"{settings['provider']}, {settings['threads']} threads, {settings['rounds']} rounds of "
        f"{settings['seconds_per_visit']:g} s, task {settings['task']}, {now.date}"
    )


def _table(title: str, columns: Iterable[str]) -> Table:
    """Narrow: all tables fit a terminal of 80 columns."""
    table = Table(title=title, title_justify="left", caption_justify="left", box=box.SIMPLE_HEAD)
    table.padding = (0, 1, 0, 0)
    table.pad_edge = table.show_edge = False
    for column in columns:
        table.add_column(column, min_width=_NAME_WIDTH)
    return table


def _numbers(table: Table, columns: Iterable[str]) -> None:
    for column in columns:
        table.add_column(column, justify="right", no_wrap=True)


def _ratio_cells(spread: Spread | None) -> tuple[str, str]:
    if spread is None:
        return "", ""
    return _ratio(spread), f"{spread.minimum:.2f}–{spread.maximum:.2f}"


def _ratio(spread: Spread | None) -> str:
    return "" if spread is None else f"{spread.median:.3f}"


def _ms(milliseconds: float) -> str:
    return f"{milliseconds:.3f}" if milliseconds < 10 else f"{milliseconds:.1f}"


def _rate(per_second: float) -> str:
    return f"{per_second:,.1f}" if per_second < 1000 else f"{per_second:,.0f}"


def _percent(share: float) -> str:
    return f"{100 * share:+.1f}%"


def _mib(memory: Memory) -> str:
    return f"{memory.pss / _MIB:.1f} / {memory.rss / _MIB:.1f}"
