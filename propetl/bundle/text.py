"""How a task is asked and answered in text: plain data and strings, shared by training, export and the device."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from math import isfinite
from typing import Any

from propetl import fields

PLACE = "{}"
"""Where in a prompt the next text column stands."""

NO_CLASS = -1
"""The answer that names no class."""

NO_VALUE = -1.0
"""The answer that is no number, as in the reference implementation."""

_NUMBER = re.compile(r"[+-]?([0-9]+\.?[0-9]*|\.[0-9]+)")


@dataclass(frozen=True)
class TextInfo:
    """A task as text-to-text.

    Attributes:
        prompt: the input; each ``{}`` stands for the next of the task's text columns.
        words: what is generated for each label, in the order of the labels; empty if the answer is no class.
        step: values are written rounded to multiples of this (0.2 for STS-B); None if the answer is no value.
        max_target_length: tokens that an answer has at most, its end included.
        num_beams: beams of the search; 1 is greedy.
        length_penalty: beams are ranked by their log-probability over their length to this power.
    """

    prompt: str
    words: tuple[str, ...] = ()
    step: float | None = None
    max_target_length: int = 128
    num_beams: int = 1
    length_penalty: float = 1.0

    def source(self, texts: Sequence[str]) -> str:
        """The input for one row's ``texts``, one for each text column."""
        first, *parts = self.prompt.split(PLACE)
        return first + "".join(text + part for text, part in zip(texts, parts, strict=True))

    def target(self, label: int | float | str) -> str:
        """What is to be generated for ``label``: a class index, a value, or a text."""
        if self.words:
            return self.words[int(label)]
        if self.step is not None:
            steps = round(float(label) / self.step) or 0  # no minus before a zero
            return f"{steps * self.step:.{_decimals(self.step)}f}"
        return str(label)

    def answer(self, generated: str) -> int | float | str:
        """Inverse of :meth:`target`: :data:`NO_CLASS` or :data:`NO_VALUE` where the text is neither."""
        text = generated.strip()
        if self.words:
            return self.words.index(text) if text in self.words else NO_CLASS
        if self.step is not None:
            return float(text) if _NUMBER.fullmatch(text) and isfinite(float(text)) else NO_VALUE
        return text


def text_info(value: Any) -> TextInfo:
    """A :class:`TextInfo` from JSON.

    Raises:
        ValueError: a key is unknown, missing, of another kind or out of range.
    """
    given = dict(fields.record(value, "text", ("prompt",), TextInfo.__dataclass_fields__))
    if "words" in given:
        given["words"] = fields.texts(given["words"], "text.words")
    info = TextInfo(**given)
    check_text_info(info)
    return info


def check_text_info(info: TextInfo) -> None:
    """Refuses kinds and ranges that cannot be meant.

    Raises:
        ValueError: a text is none, a number is out of range, or both words and a step are given.
    """
    fields.text(info.prompt, "prompt")
    for word in info.words:
        if not fields.text(word, "words").strip():
            raise ValueError(f"words: each label needs one, got {list(info.words)}")
    if len(set(map(str.strip, info.words))) < len(info.words):
        raise ValueError(f"words: each label needs its own, got {list(info.words)}")
    if info.words and info.step is not None:
        raise ValueError("words and step: an answer is a class or a value, give one of them")
    if info.step is not None and fields.number(info.step, "step") <= 0:
        raise ValueError(f"step is a positive number, got {info.step!r}")
    fields.whole(info.max_target_length, "max_target_length", 1)
    fields.whole(info.num_beams, "num_beams", 1)
    fields.number(info.length_penalty, "length_penalty")


def _decimals(step: float) -> int:
    """Digits after the point that multiples of ``step`` need; one at least, as in ``3.0``."""
    return max(1, len(f"{step:f}".rstrip("0").partition(".")[2]))
