"""From a YAML file and overrides to a :class:`TrainConfig`; every refusal is one line that names the key."""

import re
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import TypeAdapter, ValidationError
from pydantic_core import ErrorDetails

from propetl.backbone_files import check_name
from propetl.data.known import known_tasks, specs_of
from propetl.data.table import shown
from propetl.errors import ConfigurationError
from propetl.nearest import did_you_mean, nearest
from propetl.prototypes.spec import PrototypeConfig
from propetl.training.config import Prototype, TrainConfig
from propetl.training.yaml_file import parse_yaml, read_yaml, yaml_problem

Overrides = Mapping[str, Any]
Tasks = dict[str, dict[str, Any] | None]


def load_config(path: Path, overrides: Overrides | None = None, only: Sequence[str] = ()) -> TrainConfig:
    """The configuration in the YAML file ``path``.

    Args:
        path: the file.
        overrides: values by dotted key, such as ``{"prototype.sparsity": 0.3}``; they win over the file.
        only: the tasks to keep; one that the file does not name is taken as one of those known by name.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value is wrong, also in a task's definition; or there
            is no folder or package of the backbone's name.
    """
    config = config_from(read_yaml(path), overrides or {}, str(path))
    if only:
        config = config.model_copy(update={"tasks": _chosen_tasks(config.tasks, only)})
    try:
        check_name(config.backbone)
        specs_of(config.tasks)
    except ConfigurationError as error:
        raise ConfigurationError(f"{path}: {error}") from error
    return config


def _chosen_tasks(tasks: Tasks, only: Sequence[str]) -> Tasks:
    known = [*tasks, *known_tasks()]
    if unknown := [name for name in only if name not in known]:
        raise ConfigurationError(
            f"--task: {unknown[0]!r} has no definition in the configuration and is not known by name; "
            f"{nearest(unknown[0], known)}"
        )
    return {name: tasks.get(name) for name in only}


def config_from(values: Mapping[str, Any], overrides: Overrides, source: str) -> TrainConfig:
    """Checks ``values`` after applying ``overrides``; ``source`` names them in errors."""
    merged: dict[str, Any] = dict(values)
    for key, value in overrides.items():
        merged = _with(merged, key.split("."), value, key)
    try:
        return TrainConfig.model_validate(merged)
    except ValidationError as error:
        raise ConfigurationError(f"{source}: {_first_line(error)}") from error
    except ConfigurationError as error:
        raise ConfigurationError(f"{source}: {error}") from error


def prototype_from(values: Mapping[str, Any]) -> PrototypeConfig:
    """The prototype of a configuration whose key ``prototype`` holds ``values``.

    Raises:
        ConfigurationError: a key or value is wrong.
    """
    try:
        return TypeAdapter(Prototype).validate_python(values)
    except ValidationError as error:
        raise ConfigurationError(_first_line(error, "prototype")) from error


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """``key.sub=value`` strings to overrides; a value is read as YAML.

    Raises:
        ConfigurationError: a string has no ``=``, its value is not YAML, or a key is given twice.
    """
    overrides: dict[str, Any] = {}
    for text in settings:
        key, value = _setting(text)
        if key in overrides:
            raise ConfigurationError(f"--set {text!r}: {key} is set twice; give it once")
        overrides[key] = value
    return overrides


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise ConfigurationError(f"--set {text!r}: write it as key=value or key.sub=value")
    try:
        return key.strip(), parse_yaml(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--set {text!r}: the value is not YAML ({yaml_problem(error)}); put text with signs in it in quotes"
        ) from error


def _with(values: Mapping[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A copy of ``values`` in which the entry at ``path`` is ``value``."""
    first, *rest = path
    if not rest:
        return {**values, first: value}
    inner = values.get(first) or {}
    if not isinstance(inner, Mapping):
        raise ConfigurationError(f"{key}: {first} is {shown(inner)}, which has no keys below it")
    return {**values, first: _with(inner, rest, value, key)}


def _first_line(error: ValidationError, *above: str) -> str:
    """What is wrong first; ``above`` are the keys over what was checked."""
    first = error.errors()[0]
    key = ".".join(str(part) for part in (*above, *first["loc"]))
    if first["type"] == "extra_forbidden":
        return f"unknown key {key!r}; {nearest(key, TrainConfig.model_fields)}"
    if first["type"] == "missing":
        return f"{key} is missing; it is needed"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}; found {shown(first['input'])}{_hint(first)}"


def _hint(error: ErrorDetails) -> str:
    """The nearest of an enumeration's values."""
    if error["type"] != "literal_error" or not isinstance(error["input"], str):
        return ""
    return did_you_mean(error["input"], re.findall(r"'([^']*)'", error["ctx"]["expected"]))
