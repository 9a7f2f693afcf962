"""``sets.yaml``: which configurations make up a named set, and what the paper reports for them."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Any

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, ValidationError
from pydantic_core import ErrorDetails

from propetl.errors import ConfigurationError
from propetl.nearest import did_you_mean, nearest
from propetl.training.yaml_file import read_yaml

SETS_FILE = "sets.yaml"
AVERAGE = "average"

Scores = dict[str, tuple[float, ...]]


class Row(BaseModel):
    """One experiment: a configuration, run over seeds.

    Attributes:
        name: in tables.
        config: file of the training configuration, beside ``sets.yaml``.
        separate: whether every task is trained alone.
        overrides: values by dotted key over the configuration (``set`` in the file).
        by_task: the same for single tasks, of a row that trains every task alone.
        paper: reported scores in percent by task, in the order of its metrics; and ``average``.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    name: str = Field(min_length=1)
    config: str = Field(min_length=1)
    separate: bool = False
    overrides: dict[str, Any] = Field(default_factory=dict, alias="set")
    by_task: dict[str, dict[str, Any]] = Field(default_factory=dict)
    paper: Scores = Field(default_factory=dict)

    @property
    def folder(self) -> str:
        """Where its runs stand: called after configuration and changes, so that sets share what they have in common."""
        changes = [f"{key.rpartition('.')[2]}-{value}" for key, value in self.overrides.items()]
        return "-".join([Path(self.config).stem, *changes])


def _distinct(rows: Any) -> Any:
    names = [row.get("name") for row in rows if isinstance(row, Mapping)] if isinstance(rows, list) else []
    if len(set(map(str, names))) < len(names):
        raise ValueError("two rows have one name")
    return rows


class ExperimentSet(BaseModel):
    """What ``propetl reproduce NAME`` runs.

    Attributes:
        title: of the table.
        seeds: of the paper's runs.
        rows: its experiments.
    """

    model_config = ConfigDict(extra="forbid", frozen=True)

    title: str
    seeds: tuple[int, ...] = Field(min_length=1)
    rows: Annotated[tuple[Row, ...], BeforeValidator(_distinct), Field(min_length=1)]


@dataclass(frozen=True)
class SetsFile:
    """The sets of one folder.

    Attributes:
        folder: that holds ``sets.yaml`` and the configurations.
        sets: by name.
    """

    folder: Path
    sets: dict[str, ExperimentSet]

    def get(self, name: str) -> ExperimentSet:
        """The set ``name``.

        Raises:
            ConfigurationError: naming those there are.
        """
        if name not in self.sets:
            where = self.folder / SETS_FILE
            raise ConfigurationError(
                f"set {name!r} is not in {where}; it has {', '.join(self.sets)}{did_you_mean(name, self.sets)}"
            )
        return self.sets[name]


def read_sets(folder: Path) -> SetsFile:
    """The sets in ``folder``.

    Raises:
        ConfigurationError: there is no ``sets.yaml``, or a key or value in it is wrong.
    """
    path = folder / SETS_FILE
    if not path.is_file():
        raise ConfigurationError(
            f"{path}: no such file; run in a checkout of the project, or name the folder of {SETS_FILE} with --configs"
        )
    values = read_yaml(path)
    try:
        return SetsFile(folder, {name: ExperimentSet.model_validate(value) for name, value in values.items()})
    except ValidationError as error:
        first = error.errors()[0]
        where = ".".join(map(str, first["loc"]))
        raise ConfigurationError(f"{path}: {error.title}: {where}: {first['msg']}{_hint(first)}") from error


def _hint(error: ErrorDetails) -> str:
    """The nearest key of the level at which an unknown one stands."""
    if error["type"] != "extra_forbidden":
        return ""
    *above, key = error["loc"]
    model = Row if "rows" in above else ExperimentSet
    return f"; {nearest(str(key), [field.alias or name for name, field in model.model_fields.items()])}"
