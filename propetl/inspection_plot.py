"""Draws the overlap of masks: a field for the slots of each owner, one for the tasks, one for the languages."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from propetl.errors import ConfigurationError
from propetl.extras import check_installed
from propetl.inspection import Inspection, Matrix, Overlap, slot_names
from propetl.output import write_output

FORMATS = ("png", "svg", "pdf")

Field = tuple[str, Matrix, list[str]]
"""Title, matrix, and the names of its rows."""

_COLUMNS = 3
_INCHES = 4.0


def check_plot_path(path: Path) -> str:
    """The image format that ``path`` asks for by its ending.

    Raises:
        ConfigurationError: it is none of :data:`FORMATS`.
    """
    suffix = path.suffix.lower().removeprefix(".")
    if suffix not in FORMATS:
        raise ConfigurationError(f"--plot: {path} ends in {path.suffix!r}; use one of .{', .'.join(FORMATS)}")
    return suffix


def check_plot(path: Path) -> None:
    """Refuses before anything is counted what could not be drawn afterwards.

    Raises:
        ConfigurationError: a kind of file that is not written.
        MissingExtraError: matplotlib is not installed.
    """
    check_plot_path(path)
    check_installed("propetl inspect --plot", "matplotlib", "plot")


def write_overlap_plot(inspection: Inspection, path: Path) -> None:
    """Writes the plot to ``path``, whole or not at all.

    Raises:
        ConfigurationError: nothing is masked, or the ending is of no known format.
        MissingExtraError: matplotlib is not installed.
    """
    image = check_plot_path(path)
    if inspection.overlap is None:
        method = inspection.bundle.info.prototype
        raise ConfigurationError(
            f"--plot: {inspection.bundle.path} has no masks to compare ({method.method}, {method.sharing})"
        )
    fields = _fields(inspection, inspection.overlap)
    if not fields:
        raise ConfigurationError(f"--plot: {inspection.bundle.path} has one task's mask alone: nothing to compare")
    stream = io.BytesIO()
    _figure(fields).savefig(stream, format=image, dpi=120)
    write_output(path, stream.getvalue())


def _fields(inspection: Inspection, overlap: Overlap) -> list[Field]:
    """What there is to draw; a single task or language has nobody to be compared with."""
    info = inspection.bundle.info
    slots = slot_names(info.layout)
    fields = [(f"slots of {owner}", matrix, slots) for owner, matrix in overlap.between_slots().items()]
    pairs = (
        ("tasks", overlap.tasks, list(info.tasks)),
        ("languages", overlap.languages, list(info.prototype.languages)),
    )
    fields += [(title, matrix, names) for title, matrix, names in pairs if matrix is not None and len(matrix) > 1]
    return fields


def _figure(fields: Sequence[Field]) -> Any:
    check_installed("propetl inspect --plot", "matplotlib", "plot")
    from matplotlib.figure import Figure

    columns = min(_COLUMNS, len(fields))
    rows = math.ceil(len(fields) / columns)
    figure = Figure(figsize=(_INCHES * columns + 1, _INCHES * rows), layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for place, (title, matrix, names) in zip(axes, fields, strict=False):
        shown = place.imshow(matrix, vmin=0, vmax=1, cmap="viridis")
        place.set_title(title)
        place.set_xticks(range(len(names)), names, rotation=90, fontsize=7)
        place.set_yticks(range(len(names)), names, fontsize=7)
    for place in axes[len(fields) :]:
        place.axis("off")
    figure.colorbar(shown, ax=list(axes), label="Jaccard overlap of masks")
    return figure
