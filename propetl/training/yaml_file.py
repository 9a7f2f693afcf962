"""YAML read strictly: refuses keys that stand twice, and numbers that mean others than they seem to."""

import re
from collections.abc import Hashable, Mapping
from pathlib import Path
from typing import Any

import yaml

from propetl.data.table import shown
from propetl.errors import ConfigurationError

_INT, _FLOAT, _MERGE = "tag:yaml.org,2002:int", "tag:yaml.org,2002:float", "tag:yaml.org,2002:merge"
_MISREAD = re.compile(r"[-+]?(0[0-9_]+|.*:.*)")  # YAML reads 0100 as 64, 1:30 as 90
_PLAIN_INT = re.compile(r"0|-?[1-9][0-9]*")


class _Refused(yaml.MarkedYAMLError):
    """Carries one line of ours and the place in the file."""

    def __init__(self, problem: str, mark: yaml.Mark) -> None:
        super().__init__(problem=problem, problem_mark=mark)


class _StrictLoader(yaml.SafeLoader):
    """Plain YAML values only; refuses what plain YAML would take in silence."""

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:
        if node.tag in (_INT, _FLOAT) and _MISREAD.fullmatch(str(node.value)):
            problem = f"{shown(node.value)} would be read as another number; write it in decimals, or text in quotes"
            raise _Refused(problem, node.start_mark)
        try:
            value = super().construct_object(node, deep)
            if isinstance(value, int):
                repr(value)  # a ValueError: of hexadecimal digits Python reads more than it can write
            return value
        except yaml.YAMLError:
            raise
        except Exception as error:  # PyYAML lets int(), float(), datetime() and its own lookups raise what they like
            kind = node.tag.rpartition(":")[2]
            problem = f"{shown(node.value)} is no {kind}; put it in quotes if it is text"
            raise _Refused(problem, node.start_mark) from error

    def compose_mapping_node(self, anchor: Any) -> yaml.MappingNode:
        node = super().compose_mapping_node(anchor)
        self._refuse_doubles(node)  # here, before merge keys are resolved: a key may replace one that `<<` brings
        return node

    def _refuse_doubles(self, node: yaml.MappingNode) -> None:
        lines: dict[Hashable, int] = {}
        for key_node, _ in node.value:
            if not isinstance(key_node, yaml.ScalarNode):
                continue  # refused by PyYAML when it makes the mapping, as any key is that has no hash
            _check_number(key_node)
            key = "<<" if key_node.tag == _MERGE else self.construct_object(key_node)
            if not isinstance(key, Hashable):
                continue
            line = key_node.start_mark.line + 1
            if key in lines:
                where = "in the same line" if lines[key] == line else f"first on line {lines[key]}"
                problem = f"key {shown(key_node.value)} stands there twice ({where}); leave one"
                raise _Refused(problem, key_node.start_mark)
            lines[key] = line


def parse_yaml(text: str) -> Any:
    """The one document in ``text``.

    Raises:
        yaml.YAMLError: it is not YAML, or has a key twice.
    """
    try:
        return yaml.load(text, _StrictLoader)  # a SafeLoader
    except RecursionError as error:
        raise yaml.YAMLError("nested too deeply") from error


def read_yaml(path: Path) -> Mapping[str, Any]:
    """The mapping in the YAML file ``path``.

    Raises:
        ConfigurationError: there is no such file, it holds something else, or a key stands twice.
    """
    try:
        value = parse_yaml(path.read_text("utf-8"))
    except FileNotFoundError as error:
        raise ConfigurationError(f"{path}: no such file; give the path of a YAML configuration") from error
    except (UnicodeDecodeError, yaml.YAMLError) as error:
        raise ConfigurationError(f"{path}: not valid YAML ({yaml_problem(error)})") from error
    if not isinstance(value, Mapping) or not all(isinstance(key, str) for key in value):
        raise ConfigurationError(f"{path}: expected 'key: value' lines, found {type(value).__name__}")
    return value


def yaml_problem(error: Exception) -> str:
    """Says what is wrong and where, in one line."""
    if isinstance(error, _Refused) and error.problem_mark is not None:
        return f"line {error.problem_mark.line + 1}: {error.problem}"
    return " ".join(str(error).split())


def _check_number(node: yaml.Node) -> None:
    """Refuses ``010:`` (8 in YAML) and ``12:30:`` (750) as keys: raw values of labels are meant as they are written."""
    if node.tag == _INT and not _PLAIN_INT.fullmatch(node.value):
        raise _Refused(f"key {node.value} would be read as another number; put it in quotes", node.start_mark)
