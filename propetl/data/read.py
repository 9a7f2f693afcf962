"""Reads TSV, CSV, JSONL, Parquet and CoNLL columns into one form: column names and numbered records."""

from collections.abc import Callable
from pathlib import Path

from propetl.data.conll import read_conll
from propetl.data.json_lines import read_jsonl
from propetl.data.parquet_file import read_parquet
from propetl.data.separated import read_csv, read_tsv
from propetl.data.table import Sought, Table
from propetl.errors import DataError

READERS: dict[str, Callable[[Path, Sought], Table]] = {
    ".tsv": read_tsv,
    ".csv": read_csv,
    ".jsonl": read_jsonl,
    ".parquet": read_parquet,
    ".conll": read_conll,
}
"""Extension -> reader."""


def read_table(path: Path, sought: Sought) -> Table:
    """Open a data file by its extension.

    Raises:
        DataError: the extension is unknown, or the file cannot be read, is empty or not UTF-8.
    """
    reader = READERS.get(path.suffix.lower())
    if reader is None:
        raise DataError(f"{path} has no known extension: use one of {', '.join(READERS)}")
    try:
        return reader(path, sought)
    except OSError as error:
        raise DataError(f"{path} cannot be read: {' '.join((error.strerror or str(error)).split())}") from error
