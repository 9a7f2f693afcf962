"""Values out of JSON that nobody vouches for: each of the kind and in the range that is meant, or a ValueError.

No other error leaves these functions, and each message is one line that names the key.
"""

import sys
from collections.abc import Callable, Iterable, Mapping
from typing import Any, TypeVar

MOST = 2**31 - 1
"""Of lengths, ids and widths: what every library that they are handed to can take."""

MOST_BYTES = 2**63 - 1
"""Of sizes of files, and of weights in a model."""

_LARGEST_FLOAT = sys.float_info.max
_SHOWN = 80

Value = TypeVar("Value")


def whole(value: Any, key: str, smallest: int = 0, largest: int = MOST) -> int:
    """A whole number in range; no boolean, and no float such as ``2.0``."""
    if type(value) is not int or not smallest <= value <= largest:
        most = f" and at most {largest}" if type(value) is int and value > largest else ""
        raise unexpected(value, key, f"a whole number of at least {smallest}{most}")
    return value


def number(value: Any, key: str) -> float:
    """A finite number; a whole one stays an integer. No boolean."""
    if (type(value) is not int and type(value) is not float) or not -_LARGEST_FLOAT <= value <= _LARGEST_FLOAT:
        raise unexpected(value, key, "a finite number")
    return value


def flag(value: Any, key: str) -> bool:
    """True or false."""
    if type(value) is not bool:
        raise unexpected(value, key, "true or false")
    return value


def text(value: Any, key: str) -> str:
    """A text."""
    if type(value) is not str:
        raise unexpected(value, key, "a text")
    return value


def items(value: Any, key: str) -> list[Any]:
    """A list of anything."""
    if type(value) is not list:
        raise unexpected(value, key, "a list")
    return value


def texts(value: Any, key: str) -> tuple[str, ...]:
    """A list of texts."""
    return tuple(text(item, f"{key}[{index}]") for index, item in enumerate(items(value, key)))


def entries(value: Any, key: str) -> dict[str, Any]:
    """An object with any keys."""
    if type(value) is not dict:
        raise unexpected(value, key, "an object")
    return value


def record(value: Any, key: str, needed: Iterable[str], others: Iterable[str] = ()) -> dict[str, Any]:
    """An object with the keys ``needed``, and of others only those named."""
    found = entries(value, key)
    wanted = tuple(needed)
    if missing := [name for name in wanted if name not in found]:
        raise ValueError(f"{key} has no key {missing[0]!r}")
    if unknown := found.keys() - wanted - set(others):
        raise ValueError(f"{key} has an unknown key {shown(min(unknown))}")
    return found


def each(read: Callable[[Any, str], Value], value: Any, key: str) -> dict[str, Value]:
    """An object whose values ``read`` accepts."""
    return {name: read(item, f"{key}.{_name(name)}") for name, item in entries(value, key).items()}


def _name(name: str) -> str:
    """A key that somebody chose, for one line: as it is where it can be printed."""
    return name if name.isprintable() and len(name) <= _SHOWN else shown(name)


def optional(read: Callable[[Any, str], Value], value: Any, key: str) -> Value | None:
    """None, or what ``read`` accepts."""
    return None if value is None else read(value, key)


def one_of(allowed: Iterable[str], value: Any, key: str) -> str:
    """One of the texts ``allowed``."""
    known = tuple(allowed)
    if type(value) is not str or value not in known:
        raise unexpected(value, key, f"one of {', '.join(known)}")
    return value


def need(values: Mapping[str, Any], key: str) -> Any:
    """The value of a key that has to be there."""
    if key not in values:
        raise ValueError(f"key {key!r} is missing")
    return values[key]


def unexpected(value: Any, key: str, wanted: str) -> ValueError:
    """The error about a value of another kind or out of range."""
    return ValueError(f"{key} is {shown(value)}, expected {wanted}")


def printable(text: str) -> str:
    """``text`` with escapes for line ends and all else that is not printed: a damaged graph has such names."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def shown(value: Any) -> str:
    """``value`` for a message, cut where it is long."""
    said = repr(value)
    return said if len(said) <= _SHOWN else f"{said[:_SHOWN]}…"
