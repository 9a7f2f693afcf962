"""Reads a split from the Hugging Face hub through ``datasets``, imported only then."""

from collections.abc import Iterator, Mapping
from typing import Any

from propetl.data.table import Place, Record, Table
from propetl.errors import DataError, MissingExtraError
from propetl.task import TaskSpec

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
    columns = tuple(rows.column_names)
    return Table(shown, "row", columns, _records(rows, columns), dict(_class_names(rows.features)))


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


def _class_names(feature: Any, place: Place = ()) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """The class names behind the data set's numbers, by column; the items of a list share them."""
    while (inner := getattr(feature, "feature", None)) is not None:
        feature = inner
    if isinstance(feature, list) and len(feature) == 1:
        yield from _class_names(feature[0], place)
    elif names := getattr(feature, "names", None):
        yield place, tuple(names)
    elif isinstance(feature, Mapping):
        for key, value in feature.items():
            yield from _class_names(value, (*place, key))


def _records(rows: Any, columns: tuple[str, ...]) -> Iterator[Record]:
    for number, row in enumerate(rows, start=1):
        yield Record(number, tuple(row[column] for column in columns))
