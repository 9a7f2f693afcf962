"""What ``propetl validate`` prints: a screen at most, and one line at its end that says PASS or FAIL."""

from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from functools import cached_property

from rich import box
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from propetl.runtime.report import Check, Comparison, Report

MOST_ROWS = 10
"""Rows of the table, and so lines of a screen: ``--json`` has everything."""

_MOST_LINES = 2  # of a kind, each as long as two on a screen
_PASS, _FAIL = "PASS", "FAIL"


def print_report(console: Console, report: Report) -> None:
    """Prints the checks on a line, a row for each task, and what is worth a word; the verdict is not among it."""
    console.print(escape(_checks_line(report.checks)), soft_wrap=True, highlight=False)
    if report.comparisons:
        console.print(_table(report))
    words = [check.breach for check in report.checks if check.passed and check.detail]
    others = report.breaches[1:]  # the verdict has the first
    for mark, lines in (("[yellow]![/yellow]", words), ("[red]✗[/red]", others)):
        for line in lines[:_MOST_LINES]:
            console.print(f"{mark} {escape(_one_line(line))}", soft_wrap=True)


def verdict(report: Report) -> str:
    """One line: PASS or FAIL, what was compared, and the largest error or the first that is too large."""
    if not report.passed:
        first, *others = report.breaches or ("nothing was checked",)
        more = f" (and {len(others)} more)" if others else ""
        return _one_line(f"{_FAIL} {report.artifact}: {first}{more}")
    return _one_line(f"{_PASS} {report.artifact}: {_checks_line(report.checks)}{_compared(report.comparisons)}")


def _one_line(text: str) -> str:
    """Names may come from a file that nobody vetted."""
    return "".join(char for char in " ".join(text.split()) if char.isprintable())


def _checks_line(checks: Sequence[Check]) -> str:
    """How often each check held: ``files 1, task pack 3 of 4``."""
    names = Counter(check.name for check in checks)
    held = Counter(check.name for check in checks if check.passed)
    counts = ((name, count if held[name] == count else f"{held[name]} of {count}") for name, count in names.items())
    return f"checked: {', '.join(f'{name} {count}' for name, count in counts)}"


def _compared(comparisons: Sequence[Comparison]) -> str:
    """Says how much was compared with PyTorch, and the largest error."""
    if not comparisons:
        return ""
    tasks = len({item.task for item in comparisons})
    forms = ", ".join(dict.fromkeys(item.form.partition(",")[0] for item in comparisons))
    logits = [item for item in comparisons if item.of == "logits"]
    parts = [f"; {len(comparisons)} comparisons with PyTorch: {tasks} {'task' if tasks == 1 else 'tasks'} in {forms}"]
    if logits:
        worst = max(logits, key=lambda item: item.max_abs)
        parts.append(
            f"largest error of a logit {worst.max_abs:.1e} (task {worst.task}, form {worst.form}), allowed "
            f"{worst.tolerance.absolute:.0e} + {worst.tolerance.relative:.0e} × |reference|"
        )
    if texts := [item.agreement for item in comparisons if item.of == "texts"]:
        parts.append(f"texts the same {min(texts):.1%}")
    return ", ".join(parts)


@dataclass(frozen=True)
class _Row:
    """All comparisons of one task."""

    task: str
    items: tuple[Comparison, ...]

    @property
    def passed(self) -> int:
        """How many hold."""
        return sum(item.passed for item in self.items)

    @cached_property
    def largest(self) -> float:
        """Largest error of a logit; 0 where texts alone were compared."""
        return max((item.max_abs for item in self.items if item.of == "logits"), default=0.0)

    @property
    def metric(self) -> str:
        """The task's main metric by PyTorch and by the artifact, where they are furthest apart."""
        found = [
            (name, reference, item.metrics_artifact.get(name, float("nan")))
            for item in self.items
            for name, reference in [*item.metrics_reference.items()][:1]
        ]
        if not found:
            return "–"
        name, reference, artifact = max(found, key=lambda one: abs(one[1] - one[2]))
        return f"{name} {reference:.4f} → {artifact:.4f}"

    def cells(self) -> tuple[str, ...]:
        """As the table shows it."""
        mark = "[green]✓[/green]" if self.passed == len(self.items) else "[red]✗[/red]"
        agreement = min(item.agreement for item in self.items)
        held = f"{self.passed}/{len(self.items)} {mark}"
        return escape(_one_line(self.task)), held, f"{self.largest:.1e}", f"{agreement:.1%}", self.metric


def _table(report: Report) -> Table:
    """A row for each task: those that fail first, then those with the largest error."""
    rows = sorted(_rows(report.comparisons), key=lambda row: (row.passed == len(row.items), -row.largest))
    caption = f"and {len(rows) - MOST_ROWS} more tasks: --json FILE has all" if len(rows) > MOST_ROWS else None
    title = escape(f"Against PyTorch ({report.precision}, {report.provider})")
    table = Table(title=title, caption=caption, box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    table.add_column("task", no_wrap=True, overflow="ellipsis", max_width=18)
    for name in ("held", "error", "agree"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("PyTorch → artifact", no_wrap=True, overflow="ellipsis")
    for row in rows[:MOST_ROWS]:
        table.add_row(*row.cells())
    return table


def _rows(comparisons: Iterable[Comparison]) -> list[_Row]:
    of_task: dict[str, list[Comparison]] = {}
    for item in comparisons:
        of_task.setdefault(item.task, []).append(item)
    return [_Row(task, tuple(items)) for task, items in of_task.items()]
