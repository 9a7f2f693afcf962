"""Whether a run that goes on is the one that its folder was made for: configuration, tasks, rows and backbone."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from propetl.errors import ConfigurationError
from propetl.strict_json import parse_json
from propetl.training.config import CHANGEABLE, TrainConfig
from propetl.training.inputs import Inputs
from propetl.training.settled import BY_DATA, settled_before_data

CONFIG = "train-config.json"
INPUTS = "inputs.json"

STEPS = 1
"""Raised when the same configuration and inputs come to learn something else, so that no run mixes the two."""


def refuse_other_run(run: Path, config: TrainConfig, identity: Inputs) -> None:
    """Refuses what can be told before any row is read: another configuration, other tasks, another bundle to add to.

    Args:
        run: folder of a run.
        config: to go on with.
        identity: of its inputs, what is known already.

    Raises:
        ConfigurationError: naming what differs.
    """
    with _damage_named(run):
        settings, inputs = _read(run / CONFIG), _read(run / INPUTS)
        if inputs["steps"] != STEPS:
            raise ConfigurationError(
                f"--resume: the run in {run} was started by a version of propetl that trains otherwise; finish it with "
                "that version, or train again with --overwrite"
            )
        # By what they mean, tasks are compared below: a mapping says nothing of their order.
        _refuse_other(run, settings, settled_before_data(config), BY_DATA | {"tasks"})
        _refuse_other(run, {"add_to": inputs.get("add_to")}, {"add_to": identity.get("add_to")})
        _refuse_other_tasks(run, inputs["tasks"], identity["tasks"])


def refuse_other_inputs(run: Path, settings: dict[str, Any], inputs: Inputs) -> None:
    """Refuses what shows once rows and backbone are read.

    Args:
        run: folder of a run.
        settings: the configuration, settled.
        inputs: of the run now; without ``backbone``, that is not compared.

    Raises:
        ConfigurationError: naming what differs.
    """
    with _damage_named(run):
        before = _read(run / INPUTS)
        _refuse_other_rows(run, before["data"], inputs["data"])
        _refuse_other(run, _read(run / CONFIG), settings, frozenset({"tasks"}))
        _refuse_other_backbone(run, before["backbone"], inputs.get("backbone", {}))


def recorded_shards(run: Path) -> int:
    """In how many shards the run computes a batch."""
    with _damage_named(run):
        return int(_read(run / CONFIG)["shards"])


def _refuse_other(
    run: Path, before: Mapping[str, Any], now: Mapping[str, Any], but: frozenset[str] = frozenset()
) -> None:
    for key in sorted({*before, *now} - CHANGEABLE - but):
        if before.get(key) != now.get(key):
            raise ConfigurationError(_changed(run, key, before.get(key), now.get(key)))


def _refuse_other_tasks(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    if list(before) != list(now):
        raise ConfigurationError(_changed(run, "tasks", list(before), list(now)))
    for task, definition in now.items():
        for key in {**definition, **before[task]}:
            then, here = before[task].get(key), definition.get(key)
            if then != here:
                raise ConfigurationError(_changed(run, f"tasks.{task}.{key}", then, here))


def _refuse_other_rows(run: Path, before: Mapping[str, Any], now: Mapping[str, Any]) -> None:
    for task, rows in now.items():
        for split, here in rows["splits"].items():
            then = before[task]["splits"][split]
            if here != then:
                raise ConfigurationError(
                    f"--resume: data: {split} rows of {task} are not those that the run in {run} was started with "
                    f"({_difference(then, here)}); restore them, or train again with --overwrite"
                )
        _refuse_other(
            run,
            {f"label_values of {task}": before[task]["label_values"]},
            {f"label_values of {task}": rows["label_values"]},
        )


def _refuse_other_backbone(run: Path, before: Mapping[str, str], now: Mapping[str, str]) -> None:
    for part, fingerprint in now.items():
        if before[part] != fingerprint:
            raise ConfigurationError(
                f"--resume: backbone: its {part} is not what the run in {run} was started with (SHA-256 "
                f"{before[part][:12]} then, {fingerprint[:12]} now); restore it, or train again with --overwrite"
            )


def _difference(then: Mapping[str, Any], here: Mapping[str, Any]) -> str:
    if then["rows"] != here["rows"]:
        return f"{then['rows']} rows then, {here['rows']} now"
    if then["in_any_order"] == here["in_any_order"]:
        return "the same rows in another order"
    return "other labels of the same texts" if then["texts"] == here["texts"] else "as many rows with other texts"


def _changed(run: Path, key: str, then: Any, here: Any) -> str:
    return f"--resume: {key} is {here!r}, but the run in {run} was started with {then!r}"


def _read(path: Path) -> dict[str, Any]:
    try:
        value = parse_json(path.read_bytes())
    except (FileNotFoundError, ValueError) as error:
        raise ConfigurationError(f"--resume: {path} is missing or damaged; train again with --overwrite") from error
    if not isinstance(value, dict):
        raise ConfigurationError(f"--resume: {path} is damaged; train again with --overwrite")
    return value


@contextmanager
def _damage_named(run: Path) -> Iterator[None]:
    """Keys that are missing or hold something else: nobody but a run writes these files."""
    try:
        yield
    except (KeyError, TypeError, AttributeError, ValueError) as error:
        names = f"{CONFIG} or {INPUTS}"
        raise ConfigurationError(f"--resume: {names} in {run} is damaged; train again with --overwrite") from error
