"""From a YAML file and overrides to a :class:`TrainConfig`; every refusal is one line that names the key."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from pydantic import ValidationError

from propetl.errors import ConfigurationError
from propetl.training.config import TrainConfig

Overrides = Mapping[str, Any]


def load_config(path: Path, overrides: Overrides | None = None, only: Sequence[str] = ()) -> TrainConfig:
    """The configuration in the YAML file ``path``.

    Args:
        path: the file.
        overrides: values by dotted key, such as ``{"prototype.sparsity": 0.3}``; they win over the file.
        only: the tasks to keep; one that the file does not name is taken as one of those known by name.

    Raises:
        ConfigurationError: the file cannot be read, or a key or value is wrong.
    """
    config = config_from(read_yaml(path), overrides or {}, str(path))
    return config.model_copy(update={"tasks": {name: config.tasks.get(name) for name in only}}) if only else config


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


def parse_settings(settings: Iterable[str]) -> dict[str, Any]:
    """``key.sub=value`` strings to overrides; a value is read as YAML.

    Raises:
        ConfigurationError: a string has no ``=``, or its value is not YAML.
    """
    return dict(_setting(text) for text in settings)


def _setting(text: str) -> tuple[str, Any]:
    key, equals, value = text.partition("=")
    if not equals or not all(key.strip().split(".")):
        raise ConfigurationError(f"--set {text!r}: write it as key=value or key.sub=value")
    try:
        return key.strip(), yaml.safe_load(value)
    except yaml.YAMLError as error:
        raise ConfigurationError(
            f"--set {text!r}: the value is not YAML; put text with signs in it in quotes"
        ) from error


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in the YAML file ``path``.

    Raises:
        ConfigurationError: there is no such file, or it holds something else.
    """
    try:
        value = yaml.safe_load(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; give the path of a YAML configuration") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"{path}: expected 'key: value' lines, found {type(value).__name__}")
    return value


def _with(values: Mapping[str, Any], path: list[str], value: Any, key: str) -> dict[str, Any]:
    """A copy of ``values`` in which the entry at ``path`` is ``value``."""
    first, *rest = path
    if not rest:
        return {**values, first: value}
    inner = values.get(first) or {}
    if not isinstance(inner, Mapping):
        raise ConfigurationError(f"{key}: {first} is {inner!r}, which has no keys below it")
    return {**values, first: _with(inner, rest, value, key)}


def _first_line(error: ValidationError) -> str:
    first = error.errors()[0]
    key = ".".join(str(part) for part in first["loc"])
    if first["type"] == "extra_forbidden":
        return _unknown_key(key)
    if first["type"] == "missing":
        return f"{key} is missing; it is needed"
    return f"{key}: {first['msg'].removeprefix('Value error, ')}; found {first['input']!r}"


def _unknown_key(key: str) -> str:
    known = list(TrainConfig.model_fields)
    close = difflib.get_close_matches(key, known, n=1)
    hint = f"did you mean {close[0]!r}?" if close else f"known: {', '.join(known)}"
    return f"unknown key {key!r}; {hint}"
