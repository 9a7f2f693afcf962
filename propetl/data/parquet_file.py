"""Reads Parquet, with the class names that ``datasets`` writes into its metadata."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

from propetl.data.table import Place, Record, Sought, Table
from propetl.data.text_file import refuse_doubles
from propetl.errors import DataError, MissingExtraError
from propetl.strict_json import parse_json

_KEY = b"huggingface"


def read_parquet(path: Path, sought: Sought) -> Table:
    """A row is numbered from 1; dictionary columns, as pandas writes categories, give their values."""
    try:
        import pyarrow as arrow
        from pyarrow import parquet
    except ImportError as error:
        raise MissingExtraError(f"reading {path}", "pyarrow", "train") from error
    try:
        table = parquet.ParquetFile(path)
        schema = table.schema_arrow
        columns = tuple(schema.names)
    except (arrow.ArrowException, UnicodeDecodeError) as error:
        raise DataError(f"{path} is not a Parquet file: {_one_line(error)}") from error
    refuse_doubles(str(path), columns)
    names = _class_names(path, (schema.metadata or {}).get(_KEY))
    return Table(str(path), "row", columns, _records(path, table, columns, sought), names)


def _records(path: Path, table: Any, columns: tuple[str, ...], sought: Sought) -> Iterator[Record]:
    """Columns that are not needed are not read: they may hold what Python has no value for."""
    import pyarrow as arrow

    number = 0
    try:
        for batch in table.iter_batches(columns=[column for column in columns if sought.reads(column)]):
            read = {name: batch.column(name).to_pylist() for name in batch.schema.names}
            unread = [None] * batch.num_rows
            for values in zip(*(read.get(column, unread) for column in columns), strict=True):
                number += 1
                yield Record(number, values)
    except (arrow.ArrowException, ValueError, OverflowError, OSError) as error:
        # UnicodeDecodeError and dates that Python has not are ValueErrors
        raise DataError(f"{path}, row {number + 1}: cannot be read: {_one_line(error)}") from error


def _class_names(path: Path, metadata: bytes | None) -> dict[Place, tuple[str, ...]]:
    if metadata is None:
        return {}
    try:
        info = parse_json(metadata).get("info") or {}
        return dict(_named(info.get("features") or {}, ()))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise DataError(
            f"{path}: its metadata 'huggingface' cannot be read ({_one_line(error)}); write the file again"
        ) from error


def _named(feature: Any, place: Place) -> Iterator[tuple[Place, tuple[str, ...]]]:
    """Class names by column; the items of a list share them."""
    while isinstance(feature, dict) and isinstance(feature.get("_type"), str) and "feature" in feature:
        feature = feature["feature"]  # of a List or Sequence
    if isinstance(feature, list) and len(feature) == 1:
        yield from _named(feature[0], place)
    elif isinstance(feature, dict) and feature.get("_type") == "ClassLabel":
        yield place, tuple(map(str, feature["names"]))
    elif isinstance(feature, dict) and not isinstance(feature.get("_type"), str):
        for key, value in feature.items():
            yield from _named(value, (*place, key))


def _one_line(error: Exception) -> str:
    return " ".join(str(error).split()) or type(error).__name__
