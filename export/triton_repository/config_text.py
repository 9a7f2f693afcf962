"""``config.pbtxt``: a protobuf message as text.

Written here and not by protobuf, as the message's definition comes with Triton's client only. The tests read what
is written with that definition.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from typing import Any


class Name(str):
    """A name of an enumeration, which stands without quotes."""

    __slots__ = ()


def config_text(message: Mapping[str, Any]) -> str:
    """``message`` as text: mappings are messages, sequences are repeated fields, None is left out."""
    return "".join(f"{line}\n" for line in _lines(message, ""))


def _lines(message: Mapping[str, Any], indent: str) -> Iterator[str]:
    for key, value in message.items():
        for item in value if _is_repeated(value) else [value]:
            yield from _field(key, item, indent)


def _is_repeated(value: Any) -> bool:
    return isinstance(value, Sequence) and not isinstance(value, str)


def _field(key: str, value: Any, indent: str) -> Iterator[str]:
    if value is None:
        return
    if isinstance(value, Mapping):
        yield f"{indent}{key} {{"
        yield from _lines(value, indent + "  ")
        yield f"{indent}}}"
    else:
        yield f"{indent}{key}: {value if isinstance(value, Name) else json.dumps(value, ensure_ascii=False)}"
