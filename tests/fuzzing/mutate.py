"""Damage to bytes and to JSON: what a disk, a careless editor or somebody with a purpose does to a file."""

import copy
import json
from collections.abc import Callable, Iterator
from random import Random
from typing import Any

INTERESTING = b"\0\xff\n\"\\{}[],:0-9eE./\xc3\xed\xf4"

SURROGATE = "\ud800"


def damaged(content: bytes, random: Random) -> bytes:
    """``content`` after one to four changes; now and then it comes out as it went in."""
    for _ in range(random.choice((1, 1, 1, 2, 4))):
        content = random.choice(BYTE_CHANGES)(content, random)
    return content


def _flip_bit(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    flipped = bytes(byte ^ 1 << random.randrange(8) for byte in content[place : place + 1])
    return content[:place] + flipped + content[place + 1 :]


def _set_byte(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return content[:place] + bytes([random.choice(INTERESTING)]) + content[place + 1 :]


def _insert(content: bytes, random: Random) -> bytes:
    place, size = _place(content, random), random.choice((1, 2, 8, 100))
    return content[:place] + bytes(random.choices(INTERESTING, k=size)) + content[place:]


def _delete(content: bytes, random: Random) -> bytes:
    place = _place(content, random)
    return content[:place] + content[place + random.choice((1, 1, 2, 8, 100)) :]


def _truncate(content: bytes, random: Random) -> bytes:
    return content[: _place(content, random)]


def _splice(content: bytes, random: Random) -> bytes:
    """A piece of the file over, or into, another place of it."""
    source, target, size = _place(content, random), _place(content, random), random.choice((1, 4, 8, 32, 200))
    end = target + random.choice((0, size))
    return content[:target] + content[source : source + size] + content[end:]


def _write_number(content: bytes, random: Random) -> bytes:
    """A length or an offset becomes another."""
    place, size = random.choice((0, _place(content, random))), random.choice((1, 2, 4, 8))
    value = random.choice((0, 1, 2**7, 2**15, 2**31, 2**60, 2**63, 2**64 - 1)) % 2 ** (8 * size)
    return content[:place] + value.to_bytes(size, "little") + content[place + size :]


def _place(content: bytes, random: Random) -> int:
    return random.randrange(len(content) + 1)


BYTE_CHANGES = (_flip_bit, _flip_bit, _set_byte, _insert, _delete, _truncate, _splice, _write_number)

PLAIN: tuple[Any, ...] = (
    *(None, True, False, 0, 1, -1, 2, 7, 0.5, -0.5, 1e300, float("nan"), float("inf")),
    *(2**31 - 1, 2**31, 2**32, 2**53, 2**63, 2**64, -(2**63), 10**30, 10**400),
    *("", "x", "\0", "..", "/etc/passwd", "NaN", "ä" * 300, SURROGATE, "1e400"),
)
"""What a value becomes; ``1e400`` is written without its quotes, see :func:`json_text`."""

NESTED: tuple[Callable[[], Any], ...] = (
    list,
    dict,
    lambda: [[]],
    lambda: [None],
    lambda: {"": {}},
    lambda: _deep(70),
    lambda: _deep(150),
    lambda: list(range(1000)),
)

_DOUBLE = "\1double\1"  # a key that is written like the one before it


def damaged_json(value: Any, random: Random) -> str:
    """``value`` after one to three changes of its parts, as text, which need not be JSON any more."""
    value = copy.deepcopy(value)
    for _ in range(random.choice((1, 1, 1, 2, 3))):
        value = _changed(value, random)
    return json_text(value, random)


def json_text(value: Any, random: Random) -> str:
    """``value`` as JSON: with doubled keys where it asks for them, and numbers that no float holds."""
    text = json.dumps(value, ensure_ascii=random.random() < 0.5)
    text = text.replace('"1e400"', "1e400") if random.random() < 0.8 else text
    if random.random() < 0.01:  # deeper than Python itself can hold
        text = text.replace(": ", f": {'[' * 3000}{']' * 3000}, ", 1)
    return text.replace(json.dumps(_DOUBLE)[1:-1], "")


def _changed(value: Any, random: Random) -> Any:
    paths = list(_paths(value))
    path = random.choice(paths)
    if not path:
        return _another(random)
    holder = _at(value, path[:-1])
    kind = random.random()
    if kind < 0.55:
        holder[path[-1]] = _another(random)
    elif kind < 0.7:
        del holder[path[-1]]
    elif kind < 0.85:
        holder[path[-1]] = copy.deepcopy(_at(value, random.choice(paths)))
    elif isinstance(holder, dict):
        _change_keys(holder, path[-1], random)
    else:
        holder.insert(random.randrange(len(holder) + 1), copy.deepcopy(holder[path[-1]]))
    return value


def _another(random: Random) -> Any:
    return random.choice(PLAIN) if random.random() < 0.75 else random.choice(NESTED)()


def _change_keys(holder: dict[str, Any], key: str, random: Random) -> None:
    other = random.choice(("", "x", key.upper(), key + " ", "\0", SURROGATE, key + _DOUBLE, "../" + key))
    holder[other] = copy.deepcopy(holder[key])
    if not other.endswith(_DOUBLE) and random.random() < 0.7:
        del holder[key]


def _paths(value: Any, path: tuple[Any, ...] = ()) -> Iterator[tuple[Any, ...]]:
    yield path
    if len(path) < 40 and isinstance(value, dict | list):
        for key, item in value.items() if isinstance(value, dict) else enumerate(value[:50]):
            yield from _paths(item, (*path, key))


def _at(value: Any, path: tuple[Any, ...]) -> Any:
    for key in path:
        value = value[key]
    return value


def _deep(levels: int) -> Any:
    value: Any = 1
    for level in range(levels):
        value = [value] if level % 2 else {"a": value}
    return value
