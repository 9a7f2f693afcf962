"""Reads a task of the user's own from a parsed configuration."""

from collections.abc import Mapping, Sequence
from typing import Any

from propetl.data.as_text import TEXT
from propetl.data.table import shown
from propetl.errors import ConfigurationError
from propetl.nearest import did_you_mean
from propetl.problems import PROBLEMS, Problem
from propetl.task import TaskSpec

KEYS = ("columns", "template", "label", "problem", "labels", "metrics", "delimiter", "language")


def own_task(name: str, mapping: object) -> TaskSpec:
    """See ``TaskSpec.from_mapping``."""
    if not isinstance(mapping, Mapping):
        raise _wrong(name, f"is {shown(mapping)}: give the keys {', '.join(KEYS)}")
    kind = kind_of(name, mapping)
    known = KEYS + kind.keys
    unknown = [str(key) for key in mapping if key not in known]
    if unknown:
        unknown.sort(key=lambda key: not did_you_mean(key, known))  # one that is near a known key first
        hint = did_you_mean(unknown[0], known)
        raise _wrong(name, f"has the unknown key {', '.join(unknown)}: use {', '.join(known)}{hint}")
    mapping = {**kind.defaults, **mapping}
    if "columns" not in mapping:
        raise _wrong(name, "has no key columns: give one or two names of text columns")
    labels, values = _labels(name, mapping.get("labels"))
    columns = _words(name, "columns", mapping["columns"])
    template = _word(name, "template", mapping["template"]) if "template" in mapping else None
    text = kind.asked(name, (TEXT,) if template else columns, labels, _given(name, kind.keys, mapping))
    asks = kind.labels_as(text)
    if asks.names_labels and len(labels) == 1:  # a bundle may hold such a task, but nothing is learned from its rows
        raise ConfigurationError(f"task {name!r}: labels are {list(labels)}: a {asks.name} needs two or more")
    return TaskSpec(
        name=name,
        columns=columns,
        label_column=_word(name, "label", mapping.get("label", "label")),
        problem=kind.name,
        labels=labels,
        metrics=_words(name, "metrics", mapping.get("metrics", asks.main_metric(labels))),
        label_values=values,
        language=language_of(name, mapping),
        text=text,
        delimiter=_delimiter(name, mapping),
        template=template,
    )


def language_of(name: str, mapping: Mapping[Any, Any]) -> str | None:
    """The value of ``language``, None where the key is not there."""
    return _word(name, "language", mapping["language"]) if "language" in mapping else None


def _delimiter(name: str, mapping: Mapping[Any, Any]) -> str | None:
    given = mapping.get("delimiter")
    if given is not None and not (isinstance(given, str) and len(given) == 1 and given not in '"\r\n'):
        raise _wrong(name, f'has delimiter: {shown(given)}: give one character, such as ";" or "\\t"')
    return given


def _given(name: str, keys: Sequence[str], mapping: Mapping[Any, Any]) -> dict[str, Any]:
    """Values of the further keys of a problem."""
    given = {key: mapping[key] for key in keys if key in mapping}
    return given | {"words": _words(name, "words", given["words"])} if "words" in given else given


def kind_of(name: str, mapping: Mapping[Any, Any]) -> Problem:
    """The kind of problem that a definition names; an unknown one is a ConfigurationError."""
    named = mapping.get("problem", "classification")
    if isinstance(named, str) and named in PROBLEMS:
        return PROBLEMS[named]
    hint = did_you_mean(str(named), tuple(PROBLEMS))
    raise _wrong(name, f"has problem: {shown(named)}: use one of {', '.join(PROBLEMS)}{hint}")


def _labels(name: str, given: object) -> tuple[tuple[str, ...], dict[str, int]]:
    """Class names, and raw value -> index where the configuration maps them."""
    if given is None:
        return (), {}
    if not isinstance(given, Mapping):
        return _words(name, "labels", given), {}
    raw = [_raw_value(name, value) for value in given]
    names = [_word(name, f"labels.{value}", label) for value, label in zip(raw, given.values(), strict=True)]
    labels = tuple(dict.fromkeys(names))
    if len(set(raw)) != len(raw):
        raise _wrong(name, f"maps a value twice in labels: {shown(raw)}")
    return labels, {value: labels.index(label) for value, label in zip(raw, names, strict=True)}


def _raw_value(name: str, value: object) -> str:
    """A value as it stands in a file: YAML has read ``1:`` as a number and ``yes:`` as a truth value."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise _wrong(name, f"has the value {shown(value)} in labels: write it in quotes")
    return str(value)


def _words(name: str, key: str, given: object) -> tuple[str, ...]:
    if isinstance(given, list | tuple):
        return tuple(_word(name, f"{key}[{i}]", word) for i, word in enumerate(given))
    return (_word(name, key, given),)


def _word(name: str, key: str, given: object) -> str:
    if isinstance(given, str) and given.strip():
        return given
    hint = "write it in quotes" if isinstance(given, bool | int | float) else "give a name"
    raise _wrong(name, f"has {key}: {shown(given)}: {hint}")


def _wrong(name: str, what: str) -> ConfigurationError:
    return ConfigurationError(f"task {name!r} {what}")
