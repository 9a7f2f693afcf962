"""JSON as it may come from anybody: a value, or one line that says what is wrong with it.

Python's own reader takes more than JSON (``NaN``, a key twice, numbers beyond a float) and raises four kinds of errors.
"""

import json
import math
import re
from collections.abc import Callable
from typing import Any

DEEPEST = 64
"""Lists and objects inside each other; nothing that ProPETL writes comes near it."""

_MOST_DIGITS = 4300  # Python refuses to read more, as that takes time in their square
_WIDEST = 2**64
_HALF_A_PAIR = re.compile(r"\\u[dD][89a-fA-F]")


def sixty_four_bits(digits: str) -> int:
    """A whole number of 64 bits at most: what every other reader of JSON can hold."""
    value = any_length(digits)
    if not -_WIDEST < value < _WIDEST:
        raise ValueError(f"number {_short(digits)} is out of range")
    return value


def any_length(digits: str) -> int:
    """A whole number of 4,300 digits at most."""
    if len(digits) > _MOST_DIGITS:
        raise ValueError(f"number {_short(digits)} is out of range")
    return int(digits)


def finite(text: str) -> float:
    """A number that a float can hold."""
    value = float(text) if len(text) <= _MOST_DIGITS else math.inf
    if not math.isfinite(value):
        raise ValueError(f"number {_short(text)} is out of range")
    return value


def parse_json(
    content: bytes | str,
    *,
    whole: Callable[[str], Any] = sixty_four_bits,
    real: Callable[[str], Any] = finite,
    not_finite: bool = False,
) -> Any:
    """The value that ``content`` holds; bytes are UTF-8.

    Args:
        content: a whole file, or one line of it.
        whole: makes a whole number of its digits. People's own data may have longer ones than ProPETL's files, see
            :func:`any_length`.
        real: makes a number with a point or an exponent of its text.
        not_finite: take ``NaN`` and ``Infinity``, which transformers writes into a trainer's state.

    Raises:
        ValueError: it is not JSON, or not JSON that every reader reads alike. The message is one line.
    """
    try:
        text = content.decode("utf-8") if isinstance(content, bytes) else content
        value = json.loads(
            text,
            object_pairs_hook=_object,
            parse_constant=float if not_finite else _constant,
            parse_float=real,
            parse_int=whole,
        )
    except UnicodeDecodeError as error:
        raise ValueError(f"not UTF-8 ({error.reason} at byte {error.start})") from error
    except RecursionError as error:
        raise ValueError(_too_deep()) from error
    if text.count("[") + text.count("{") > DEEPEST and _depth(value) > DEEPEST:
        raise ValueError(_too_deep())
    if _HALF_A_PAIR.search(text):
        _check_encodes(value)
    return value


def _object(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        for key, _ in pairs:  # each key of `found` leaves it when it is met
            if key not in found:
                raise ValueError(f"key {key[:100]!r} stands there twice")
            del found[key]
    return found


def _constant(name: str) -> Any:
    raise ValueError(f"{name} is no number in JSON")


def _short(text: str) -> str:
    return text if len(text) <= 24 else f"{text[:12]}… of {len(text)} characters"


def _depth(value: Any) -> int:
    """How many lists and objects stand inside each other at most; counted level by level, without recursion."""
    level, depth = [value], 0
    while level := [item for item in level if type(item) is dict or type(item) is list]:
        depth += 1
        level = [inner for item in level for inner in (item.values() if type(item) is dict else item)]
    return depth


def _too_deep() -> str:
    return f"more than {DEEPEST} lists and objects inside each other"


def _check_encodes(value: Any) -> None:
    try:
        json.dumps(value, ensure_ascii=False, default=str).encode()
    except UnicodeEncodeError as error:
        raise ValueError("not valid Unicode (lone surrogate)") from error
