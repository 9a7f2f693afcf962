"""Texts of megabytes, cut in characters before they are tokenised, where that does not change their first tokens.

A tokenizer takes 50 to 500 bytes of memory for each letter it reads, and a row keeps the first few hundred tokens. So a
long text is read from its beginning until it has more tokens than any row keeps. Two things have to hold:

* Later letters do not reach back. The first tokens are compared for several ends of the part that was read: a letter
  or two less, what really follows, and the text's own end. Where they differ (a model that weighs a word of any length
  as a whole), more is read, in the end all.
* Letters may make no tokens: control characters, runs of blanks, the millionth letter of a word that is unknown anyway.
  A chunk that may be left out without any change between what stands before and behind it is left out.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from tokenizers import Tokenizer

WHOLE = 1 << 16
"""Letters of a text up to which it is tokenised as it is."""

_FIRST = 1 << 13
_LETTERS_PER_TOKEN = 16
_BEYOND = 64  # tokens that have to follow those that a row may keep
_FOLLOWING = 1 << 10
_END = 1 << 8
_PROBE = "a"  # shows whether what stands before it ends a word


@dataclass(frozen=True)
class ShortText:
    """A text without what no row keeps.

    Attributes:
        text: what is to be tokenised.
        tokens: an estimate of the tokens of the whole text, at least those of ``text`` that a row may keep.
        gaps: places in ``text`` before which letters were left out, and how many.
    """

    text: str
    tokens: int
    gaps: tuple[tuple[int, int], ...] = ()

    def place(self, offset: int) -> int:
        """Where a letter of ``text`` stands in the whole text."""
        return offset + sum(letters for place, letters in self.gaps if place <= offset)


def shortened(tokenizer: "Tokenizer", text: str, wanted: int) -> ShortText:
    """``text`` cut so that its first ``wanted`` tokens stay as they are.

    Args:
        tokenizer: truncates nothing and pads nothing.
        text: of any length.
        wanted: tokens that a row keeps at most.
    """
    kept = text[: max(_FIRST, _LETTERS_PER_TOKEN * wanted)]
    position, found = len(kept), _count(tokenizer, kept)
    gaps: list[tuple[int, int]] = []
    while position < len(text):
        if found >= wanted + _BEYOND and _is_settled(tokenizer, text, kept, position, wanted):
            estimate = round(found * len(text) / position)
            return ShortText(kept + text[max(position, len(text) - _END) :], estimate, tuple(gaps))
        size = max(WHOLE, len(kept))  # doubling, so that a text of which all is needed is read about twice
        chunk, follows = text[position : position + size], text[position + size : position + size + _FOLLOWING]
        position += len(chunk)
        if follows and _is_idle(tokenizer, kept, chunk, follows):
            gaps.append((len(kept), len(chunk)))
        else:
            kept += chunk
            found = _count(tokenizer, kept)
    return ShortText(kept, found, tuple(gaps))


def _is_settled(tokenizer: "Tokenizer", text: str, kept: str, position: int, wanted: int) -> bool:
    """Whether the first tokens of ``kept`` are the same however it goes on."""
    ends = (kept, kept[:-1], kept[:-2], kept + text[position : position + _FOLLOWING], kept + text[-_END:])
    first = [ids[: wanted + 1] for ids in _ids(tokenizer, ends)]
    return all(one == other for one, other in pairwise(first))


def _is_idle(tokenizer: "Tokenizer", before: str, chunk: str, behind: str) -> bool:
    """Whether ``chunk`` makes no tokens, ends no word and begins none."""
    with_chunk, without = _ids(tokenizer, (before + chunk + behind + _PROBE, before + behind + _PROBE))
    return with_chunk == without


def _count(tokenizer: "Tokenizer", text: str) -> int:
    return len(_ids(tokenizer, (text,))[0])


def _ids(tokenizer: "Tokenizer", texts: Sequence[str]) -> list[list[int]]:
    return [item.ids for item in tokenizer.encode_batch(list(texts), add_special_tokens=False)]
