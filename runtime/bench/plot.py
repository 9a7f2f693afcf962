"""The report as a picture: latency by runtime, absolute and against the bare backbone."""

from collections.abc import Callable, Sequence
from io import BytesIO
from pathlib import Path
from typing import TYPE_CHECKING, TypeVar

from propetl.errors import ConfigurationError, MissingExtraError
from propetl.output import write_output
from propetl.runtime.bench.call_figures import LatencyFigures
from propetl.runtime.bench.report import Report
from propetl.runtime.bench.token_figures import GenerationFigures

if TYPE_CHECKING:
    from matplotlib.axes import Axes

# Okabe and Ito's colours, which readers tell apart whatever their colour vision.
_COLOURS = {
    "bare": "#999999",
    "folded": "#0072B2",
    "switchable": "#E69F00",
    "bank": "#009E73",
    "eager": "#D55E00",
}
_OTHER = "#CC79A7"
_Figures = TypeVar("_Figures", LatencyFigures, GenerationFigures)
_Bar = Callable[[_Figures], tuple[float, float, float]]
_SUFFIXES = (".png", ".svg", ".pdf")


def check_plot(path: Path) -> None:
    """Refuses before anything is measured what could not be drawn afterwards.

    Raises:
        MissingExtraError: matplotlib is not installed.
        ConfigurationError: a kind of file that is not written.
    """
    try:
        import matplotlib  # noqa: F401  # only whether it is there is wanted
    except ImportError as error:
        raise MissingExtraError("propetl bench --plot", "matplotlib", "plot") from error
    if path.suffix not in _SUFFIXES:
        raise ConfigurationError(f"--plot {path}: choose a name that ends in {', '.join(_SUFFIXES)}")


def write_plot(report: Report, path: Path) -> None:
    """Draws ``report`` into ``path``."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(12, 4.8), layout="constrained")
    left, right = figure.subplots(1, 2)
    _draw_absolute(left, report)
    if report.generation:
        _draw_steps(right, report)
    else:
        _draw_ratios(right, report)
    cpu, threads = report.conditions.cpu, report.settings["threads"]
    figure.suptitle(f"{report.artifact['backbone']}, {cpu}, threads: {threads}", fontsize=10)
    picture = BytesIO()
    figure.savefig(picture, format=path.suffix[1:], dpi=150)
    write_output(path, picture.getvalue())


def _draw_absolute(axes: "Axes", report: Report) -> None:
    def bar(figures: LatencyFigures) -> tuple[float, float, float]:
        latency = figures.latency
        return latency.p50, 0.0, latency.p95 - latency.p50

    _draw(axes, report.latency, report.runtimes, bar)
    axes.set_yscale("log")
    axes.yaxis.set_major_formatter("{x:g}")
    axes.yaxis.set_minor_formatter("{x:g}")
    axes.tick_params(which="minor", labelsize=7)
    axes.set_ylabel("latency, ms per call (bar p50, whisker p95)")
    axes.legend(fontsize=8)


def _draw_ratios(axes: "Axes", report: Report) -> None:
    def bar(figures: LatencyFigures) -> tuple[float, float, float]:
        assert figures.to_bare is not None
        middle = figures.to_bare.median
        return middle, middle - figures.to_bare.minimum, figures.to_bare.maximum - middle

    names = tuple(dict.fromkeys(item.runtime for item in report.latency if item.to_bare is not None))
    if not names:
        axes.set_axis_off()
        axes.text(0.5, 0.5, "no bare backbone in the artifact", ha="center")
        return
    _draw(axes, report.latency, names, bar)
    axes.axhline(1.0, color=_COLOURS["bare"], linewidth=1)
    axes.set_ylabel("÷ bare backbone (bar median, whisker all rounds)")


def _draw_steps(axes: "Axes", report: Report) -> None:
    def bar(figures: GenerationFigures) -> tuple[float, float, float]:
        step = figures.step
        return step.p50, 0.0, step.p99 - step.p50

    _draw(axes, report.generation, report.runtimes, bar)
    axes.set_ylabel("ms from a token to the next (bar p50, whisker p99)")


def _draw(axes: "Axes", figures: Sequence[_Figures], names: tuple[str, ...], bar: _Bar[_Figures]) -> None:
    """Bars in groups by cell; ``bar`` gives height, and how far the whisker goes down and up."""
    cells = list(dict.fromkeys((item.batch, item.sequence) for item in figures))
    width = 0.8 / len(names)
    for place, name in enumerate(names):
        bars = [bar(item) for item in figures if item.runtime == name]
        heights, below, above = zip(*bars, strict=True)
        positions = [group + (place - (len(names) - 1) / 2) * width for group in range(len(cells))]
        colour = _COLOURS.get(name, _OTHER)
        axes.bar(positions, heights, 0.92 * width, label=name, color=colour, yerr=(below, above), capsize=2)
    axes.set_xticks(range(len(cells)), [f"{batch} × {sequence}" for batch, sequence in cells])
    axes.set_xlabel("batch × sequence")
