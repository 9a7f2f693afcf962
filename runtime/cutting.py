"""Which tokens of a row that is too long stay: special tokens and the prompt's own words, of its texts the first."""

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.text import PLACE
from propetl.bundle.words import Span

OURS = -1
"""Owner of a token that is of none of the texts."""


@dataclass(frozen=True)
class Asked:
    """A row of a task that is answered in text.

    Attributes:
        prompt: of the task; each ``{}`` stands for the next text.
        texts: one for each text column.
    """

    prompt: str
    texts: tuple[str, ...]

    def filled(self) -> tuple[str, list[Span]]:
        """The prompt with the texts in it, and where each text begins and ends in there."""
        first, *parts = self.prompt.split(PLACE)
        source, spans = first, []
        for text, part in zip(self.texts, parts, strict=True):
            spans.append((len(source), len(source) + len(text)))
            source += text + part
        return source, spans


def lengths_to_keep(lengths: Sequence[int], room: int) -> list[int]:
    """How many tokens of each text fit into ``room`` together: the longest loses first, of equals the earlier.

    For two texts this is the rule ``longest_first`` of the tokenizers library.
    """
    kept, room = list(lengths), max(room, 0)
    if sum(kept) <= room:
        return kept
    order = sorted(range(len(kept)), key=kept.__getitem__)
    for done, index in enumerate(order):
        kept[index] = min(kept[index], room // (len(order) - done))
        room -= kept[index]
    return kept


def owners_by_place(offsets: Iterable[Span], source: str, texts: Sequence[Span]) -> NDArray[np.int64]:
    """The text that each token is of; :data:`OURS` for those that hold a letter of the prompt, or none at all.

    Args:
        offsets: begin and end of every token in ``source``, in characters.
        source: the prompt with the texts in it.
        texts: where the texts are in there.
    """
    return np.array([_owner(span, source, texts) for span in offsets], dtype=np.int64)


def _owner(token: Span, source: str, texts: Sequence[Span]) -> int:
    """A token may begin with the blank before a text, or end with the one behind it."""
    start, end = token
    for index, (first, last) in enumerate(texts):
        if start < last and end > first:
            others = source[start : max(start, first)] + source[min(end, last) : end]
            return OURS if others.strip() else index
    return OURS
