"""Draws the overlap of masks: one field per task for its slots, one for the tasks among each other."""

import io
import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from propetl.errors import ConfigurationError, MissingExtraError
from propetl.files import write_atomically
from propetl.inspection import Inspection, slot_names

FORMATS = ("png", "svg", "pdf")

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
    fields = {f"slots of {task}": matrix for task, matrix in inspection.overlap.slots.items()}
    names = slot_names(inspection.bundle.info.layout)
    drawn = [(title, matrix, names) for title, matrix in fields.items()]
    if len(fields) > 1:
        drawn.append(("tasks", inspection.overlap.tasks, list(inspection.overlap.slots)))
    stream = io.BytesIO()
    _figure(drawn).savefig(stream, format=image, dpi=120)
    write_atomically(path, stream.getvalue())


def _figure(fields: Sequence[tuple[str, NDArray[np.float64], list[str]]]) -> Any:
    try:
        from matplotlib.figure import Figure
    except ImportError as error:
        raise MissingExtraError("propetl inspect --plot", "matplotlib", "plot") from error
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
