"""``propetl inspect``: what a bundle holds."""

from collections.abc import Mapping
from pathlib import Path

import click
import numpy as np
from rich.console import Console
from rich.markup import escape
from rich.table import Table

from propetl.bundle import BackboneInfo, read_bundle
from propetl.cli.json_output import check_output_file, json_option, write_json
from propetl.inspection import Inspection, Matrix, Overlap, inspect, overlap_by_chance, slot_names
from propetl.inspection_plot import check_plot, write_overlap_plot
from propetl.prototypes.spec import PrototypeConfig


@click.command("inspect", short_help="Show what a bundle holds.")
@click.argument("bundle", type=click.Path(path_type=Path))
@json_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    metavar="FILE.png",
    help="Draw the overlap of masks (or .svg, .pdf).",
)
def command(bundle: Path, json_file: str | None, plot: Path | None) -> None:
    """Show BUNDLE's tasks, bytes, bit-level storage, sparsity and the overlap of its masks.

    Every file is checked against its hash first. Storage is counted as in the paper: 32 bits per float, 1 per
    mask entry, heads apart; full fine-tuning costs 32 bits per weight of the backbone for every task. Overlap
    is Jaccard's: weights kept by both masks / weights kept by either.

    \b
    Examples:
      propetl inspect runs/glue/bundle
      propetl inspect runs/glue/bundle --plot overlap.png
      propetl inspect runs/glue/bundle --json - | jq .storage
    """  # noqa: D301 (click looks for the control character)
    check_output_file("--json", json_file, bundle)
    check_output_file("--plot", plot, bundle)
    if plot is not None:
        check_plot(plot)
    found = inspect(read_bundle(bundle))
    if plot is not None:
        write_overlap_plot(found, plot)
    write_json(found.to_json(), json_file, lambda: _show(found))


def _show(found: Inspection) -> None:
    console = Console()
    console.print(_heading(found), soft_wrap=True)
    console.print(_tasks_table(found))
    console.print(_storage_table(found))
    if found.overlap is not None:
        console.print(_kept_table(found))
        _show_overlap(console, found, found.overlap)


def _show_overlap(console: Console, found: Inspection, overlap: Overlap) -> None:
    info = found.bundle.info
    if between := overlap.between_slots():
        console.print(_slots_table(found, between))
    for what, names, matrix in (
        ("tasks", list(info.tasks), overlap.tasks),
        ("languages", list(info.prototype.languages), overlap.languages),
    ):
        if matrix is not None and len(matrix) > 1:
            console.print(_pairs_table(what, names, matrix))


def _heading(found: Inspection) -> str:
    info = found.bundle.info
    method, backbone = info.prototype, info.backbone
    return escape(
        f"{found.bundle.path}: {method.method}, {_sharing(method)}, head {info.head}, "
        f"up to {info.max_length} tokens\n"
        f"backbone {backbone.name}: {backbone.family}, {_layers(backbone)} layers of {backbone.hidden_size}, "
        f"{backbone.parameters:,} weights, fingerprint {backbone.fingerprint[:12]}"
    )


# Of methods whose layers have weights of their own.
_SHARING = {
    "unshared": "unshared",
    "sparse": "sparse",
    "tasks": "layers unshared, one for all tasks",
}


def _sharing(config: PrototypeConfig) -> str:
    if not config.masked:
        return _SHARING[config.sharing]
    each = ", encoder and decoder one each" if config.scope == "stack" else ""
    if config.masks == "layer":
        return f"masked{each}"
    combined = f" ({config.combine})" if config.masks == "hybrid" else ""
    languages = f" of {', '.join(config.languages)}" if config.languages else ""
    return f"masks {config.masks}{combined}{languages}{each}"


def _tasks_table(found: Inspection) -> Table:
    table = _table("Tasks; sizes in bytes", ("task", "problem", "score"), ("pack", "masks", "weights", "head"))
    for task, info in found.bundle.info.tasks.items():
        storage = found.storage.tasks[task]
        scores = "\n".join(f"{metric} {value:.4f}" for metric, value in info.scores.items())
        counts = (storage.file_bytes, found.mask_bytes(task), storage.weights // 8, storage.head // 8)
        table.add_row(escape(task), info.kind.described(info), scores, *(f"{count:,}" for count in counts))
    return table


def _layers(backbone: BackboneInfo) -> str:
    return f"{backbone.layers} + {backbone.decoder_layers}" if backbone.decoder_layers else str(backbone.layers)


def _storage_table(found: Inspection) -> Table:
    storage = found.storage
    table = _table("Storage in bits", ("",), ("bits", "of backbone", "of full fine-tuning", "heads, apart"))
    rows = [(f"{name}, once", bits, 0) for name, bits in storage.shared.items()]
    rows += [(escape(task), each.bits, each.head) for task, each in storage.tasks.items()]
    for name, bits, head in rows:
        table.add_row(name, f"{bits:,}", f"{storage.share(bits):.3%}", "", f"{head:,}" if head else "")
    table.add_section()
    share = storage.bits / storage.full_fine_tuning
    table.add_row(
        "together",
        f"{storage.bits:,}",
        f"{storage.share(storage.bits):.3%}",
        f"{share:.3%}",
        f"{storage.head_bits:,}",
    )
    return table


def _kept_table(found: Inspection) -> Table:
    table = _table("Weights kept", ("slot",), tuple(map(escape, found.kept)))
    for slot, name in enumerate(slot_names(found.bundle.info.layout)):
        table.add_row(name, *(f"{found.kept_at(task, slot):.1%}" for task in found.kept))
    return table


def _slots_table(found: Inspection, between: Mapping[str, Matrix]) -> Table:
    chance = overlap_by_chance(found.bundle.info.prototype.sparsity)
    table = _table(
        f"Overlap between slots ({chance:.3f} by chance)",
        ("masks of",),
        ("mean", "least", "most", "neighbours"),
    )
    for task, matrix in between.items():
        others = matrix[np.triu_indices(len(matrix), k=1)]
        if not np.isnan(others).all():  # one slot has nobody to be compared with
            neighbours = np.diagonal(matrix, offset=1)
            values = (np.nanmean(others), np.nanmin(others), np.nanmax(others), np.nanmean(neighbours))
            table.add_row(escape(task), *(f"{value:.3f}" for value in values))
    return table


def _pairs_table(what: str, owners: list[str], matrix: Matrix) -> Table:
    names = tuple(map(escape, owners))
    table = _table(f"Overlap between {what}", ("",), names)
    for name, row in zip(names, matrix, strict=True):
        table.add_row(name, *(f"{value:.3f}" for value in row))
    return table


def _table(title: str, left: tuple[str, ...], right: tuple[str, ...]) -> Table:
    table = Table(title=title, title_justify="left", min_width=len(title))
    for heading in left:
        table.add_column(heading)
    for heading in right:
        table.add_column(heading, justify="right", no_wrap=True)
    return table
