"""The paper's table with ours beside it: for the terminal, and as Markdown."""

from collections.abc import Iterator

from rich.markup import escape
from rich.table import Table

from propetl.reproduce.results import AVERAGE_PLACE, Measured, Place, RowResults, SetResults
from propetl.training.config import CHANGEABLE

_NONE = "–"

# A copy of the same data, and where and how fast it is computed: changes that leave the experiment what it is.
_NO_OTHER_SETTING = CHANGEABLE | {"data"}


def rich_table(results: SetResults) -> Table:
    """A line for each task and metric; for each experiment ours and, where there is one, the paper's number."""
    table = Table(title=escape(results.title), title_justify="left")
    table.add_column("task")
    table.add_column("metric")
    for heading in _headings(results):
        table.add_column(escape(heading), justify="right")
    for place in results.places:
        if place == AVERAGE_PLACE:
            table.add_section()
        table.add_row(*_cells(place, results))
    return table


def markdown_table(results: SetResults) -> str:
    """The same with a heading, ending in a line break."""
    headings = ["task", "metric", *_headings(results)]
    rule = ["---", "---", *("---:" for _ in headings[2:])]
    lines = [headings, rule, *(_cells(place, results) for place in results.places)]
    rows = "\n".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |" for line in lines)
    return f"## {results.title}\n\n{rows}\n\n{caption(results)}\n"


def caption(results: SetResults) -> str:
    """What the numbers are, and in what they are not the paper's experiment."""
    seeds = ", ".join(map(str, results.seeds))
    deviation = " ± standard deviation" if len(results.seeds) > 1 else ""
    text = f"percent; mean{deviation} over seeds {seeds}; best checkpoint on the development rows."
    if any(len(measured.by_seed) < len(results.seeds) for row in results.rows for measured in row.ours.values()):
        text += " (n): n seeds only."
    if results.done < results.planned:
        text += f" {results.done} of {results.planned} runs have ended."
    if "data" in results.overrides:
        text += f" Data: {results.overrides['data']}."
    changes = {key: value for key, value in results.overrides.items() if key not in _NO_OTHER_SETTING}
    if changes:
        text += f" Not the paper's setting: {', '.join(f'{key}={value}' for key, value in changes.items())}."
    return text


def _headings(results: SetResults) -> Iterator[str]:
    for row in results.rows:
        yield row.name
        if row.paper:
            yield "paper"


def _cells(place: Place, results: SetResults) -> list[str]:
    task, metric = place
    return [task, metric, *(cell for row in results.rows for cell in _row_cells(row, place, len(results.seeds)))]


def _row_cells(row: RowResults, place: Place, seeds: int) -> Iterator[str]:
    measured = row.ours.get(place)
    yield _NONE if measured is None else _number(measured, seeds)
    if row.paper:
        yield f"{row.paper[place]:.2f}" if place in row.paper else _NONE


def _number(measured: Measured, seeds: int) -> str:
    deviation = "" if measured.deviation is None else f" ± {measured.deviation:.2f}"
    few = f" ({len(measured.by_seed)})" if len(measured.by_seed) < seeds else ""
    return f"{measured.mean:.2f}{deviation}{few}"
