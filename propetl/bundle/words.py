"""Words of a text and the tokens that stand for them: plain arrays, shared by training, export and the device."""

import re
from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

# Blanks of ASCII alone: data sets hold words such as "10\u00a0000".
_WORD = re.compile(r"[^ \t\r\n]+")

IGNORED = -100
"""Label of a token that has none, as torch's losses know it."""

NO_TOKEN = -1
"""The place of a word that has no token: it was cut off, or holds nothing that the tokenizer reads."""

Span = tuple[int, int]


def word_spans(text: str) -> list[Span]:
    """Where the words of ``text`` begin and end, in characters: words are what blanks and line ends separate."""
    return [match.span() for match in _WORD.finditer(text)]


def is_word(value: object) -> bool:
    """Whether ``value`` is one word."""
    return isinstance(value, str) and _WORD.fullmatch(value) is not None


def first_tokens(text: str, offsets: Sequence[Span]) -> NDArray[np.int64]:
    """The place of the first token of each word.

    A token belongs to the word that its first character of one is in: tokens may begin with the blank before a word.

    Args:
        text: as it was tokenised.
        offsets: begin and end of every token in characters; both the same for special tokens.

    Returns:
        int64 ``[words]``, :data:`NO_TOKEN` for a word without tokens.
    """
    edges = np.fromiter((edge for match in _WORD.finditer(text) for edge in match.span()), dtype=np.int64)
    starts, ends = edges[::2], edges[1::2]
    places = np.full(len(starts), NO_TOKEN, dtype=np.int64)
    for token, (start, end) in enumerate(offsets):
        word = int(np.searchsorted(ends, start, side="right"))  # the first that goes on behind the token's begin
        if start < end and word < len(starts) and starts[word] < end and places[word] == NO_TOKEN:
            places[word] = token
    return places


def at_words(logits: NDArray[np.float32], places: NDArray[np.int64]) -> NDArray[np.float32]:
    """Logits of words.

    Args:
        logits: of every token of one row, float32 ``[tokens, tags]``.
        places: of the words' first tokens, int64 ``[words]``.

    Returns:
        float32 ``[words, tags]``, NaN for a word without tokens.
    """
    found = np.full((len(places), logits.shape[1]), np.nan, dtype=np.float32)
    has_token = places != NO_TOKEN
    found[has_token] = logits[places[has_token]]
    return found


def tags_of(logits: NDArray[np.float32], labels: Sequence[str]) -> tuple[str | None, ...]:
    """The likeliest tag of each word, None without tokens; logits ``[words, tags]`` as :func:`at_words` gives them."""
    return tuple(None if np.isnan(row).all() else labels[int(row.argmax())] for row in logits)


def in_one_array(rows: Sequence[NDArray[np.float32]], places: int | None = None) -> NDArray[np.float32]:
    """Logits ``[places of the row, tags]`` of each row as ``[rows, places, tags]``, NaN behind the last of a row."""
    most = max(map(len, rows)) if places is None else places
    together = np.full((len(rows), most, rows[0].shape[1]), np.nan, dtype=np.float32)
    for row, found in zip(together, rows, strict=True):
        row[: len(found)] = found
    return together
