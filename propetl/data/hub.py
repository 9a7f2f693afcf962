"""Reads a split from the Hugging Face hub through ``datasets``, imported only then."""

from collections.abc import Iterator
from typing import Any

from propetl.data.table import Record, Table
from propetl.data.tasks import TaskSpec
from propetl.errors import DataError, MissingExtraError

HUB = "hub:"
SPLITS = {"dev": ("validation", "validation_matched", "dev"), "test": ("test", "test_matched")}
"""What the hub calls a split, tried in turn."""


def read_hub(spec: TaskSpec, source: str, split: str) -> Table:
    """Open ``hub:NAME[/CONFIG]``; NAME is ``set`` or ``owner/set``.

    Without CONFIG, the configuration named like the task is taken where the data set has one.

    Raises:
        DataError: the data set, the configuration or the split cannot be had; the message says why.
        MissingExtraError: ``datasets`` is not installed.
    """
    try:
        import datasets
    except ImportError as error:
        raise MissingExtraError(f"reading {source}", "datasets", "train") from error
    name, config = _parts(source)
    try:
        if config is None and spec.name in datasets.get_dataset_config_names(name):
            config = spec.name
        splits = datasets.get_dataset_split_names(name, config)
        rows = datasets.load_dataset(name, config, split=_split(source, split, splits))
    except DataError:
        raise
    except Exception as error:  # datasets, huggingface_hub, httpx and fsspec each have their own
        why = " ".join(str(error).split()) or type(error).__name__
        raise DataError(f"{source} cannot be had from the hub: {why[:200]}: check its name and the network") from error
    shown = f"{HUB}{name}{f'/{config}' if config else ''}:{rows.split}"
    return Table(shown, "row", tuple(rows.column_names), _records(rows, spec.label_column, _names(rows, spec)))


def _parts(source: str) -> tuple[str, str | None]:
    parts = source.removeprefix(HUB).split("/")
    if not all(parts) or len(parts) > 3:
        raise DataError(f"{source} names no data set: write hub:OWNER/SET or hub:OWNER/SET/CONFIG")
    return "/".join(parts[:2]), parts[2] if len(parts) == 3 else None


def _split(source: str, split: str, there: list[str]) -> str:
    for name in SPLITS.get(split, (split,)):
        if name in there:
            return name
    raise DataError(f"{source} has no split {split!r}: it has {', '.join(there)}")


def _names(rows: Any, spec: TaskSpec) -> list[str] | None:
    """The class names behind the data set's numbers, where the task knows all of them; for tags, of a list's items."""
    kind = rows.features.get(spec.label_column)
    names = getattr(getattr(kind, "feature", kind), "names", None)
    return list(names) if names and all(spec.class_of(name) is not None for name in names) else None


def _records(rows: Any, label: str, names: list[str] | None) -> Iterator[Record]:
    """The rows, with class names for class numbers: the data set's order may not be the task's."""
    for number, row in enumerate(rows, start=1):
        if names:
            value = row[label]
            named = [_named(item, names) for item in value] if isinstance(value, list) else _named(value, names)
            row = {**row, label: named}
        yield Record(number, tuple(row[column] for column in rows.column_names))


def _named(value: Any, names: list[str]) -> Any:
    return names[value] if isinstance(value, int) and 0 <= value < len(names) else value
