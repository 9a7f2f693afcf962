"""One row on its way to tokens: its long texts shortened, its prompt filled, and which of its tokens stay."""

from collections.abc import Sequence
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.words import Span, first_tokens
from propetl.errors import ConfigurationError
from propetl.runtime.cutting import OURS, Asked, lengths_to_keep, owners_by_place
from propetl.runtime.rows import Text
from propetl.runtime.shortening import WHOLE, ShortText, shortened

if TYPE_CHECKING:
    from tokenizers import Encoding, Tokenizer

Row = Text | Asked
"""A text, a pair of texts, or a prompt with texts in it."""


class ReadableRow:
    """A row as the tokenizers library reads it.

    Attributes:
        text: what is tokenised: one text, or two.
        letters: of it.
    """

    def __init__(self, row: Row, tokenizer: "Tokenizer", max_length: int | None) -> None:
        self._whole = row.texts if isinstance(row, Asked) else (row,) if isinstance(row, str) else tuple(row)
        self._short = {} if max_length is None else _short(self._whole, tokenizer, max_length)
        self._max_length = max_length
        self._texts = tuple(
            self._short[index].text if index in self._short else text for index, text in enumerate(self._whole)
        )
        self._places: list[Span] | None = None
        self.text: str | tuple[str, ...] = self._texts if len(self._texts) > 1 else self._texts[0]
        if isinstance(row, Asked):
            self.text, self._places = Asked(row.prompt, self._texts).filled()
        self.letters = sum(map(len, self._texts))

    def kept(self, item: "Encoding") -> tuple[NDArray[np.int64] | None, int]:
        """Places of the tokens that stay, None for all, and how many do not."""
        if self._max_length is None or (len(item) <= self._max_length and not self._short):
            return None, 0
        owners = self._owners(item)
        lengths = [max(int((owners == index).sum()), self._tokens(index)) for index in range(len(self._texts))]
        kept = owners == OURS
        if kept.sum() + len(lengths) > self._max_length:
            kept[_words_to_lose(kept, item, lengths, self._max_length)] = False
        for index, length in enumerate(lengths_to_keep(lengths, self._max_length - int(kept.sum()))):
            kept[np.flatnonzero(owners == index)[:length]] = True
        places = np.flatnonzero(kept)
        return places, int((owners == OURS).sum()) + sum(lengths) - len(places)

    def words(self, offsets: Sequence[Span]) -> NDArray[np.int64]:
        """The place of the first token of each word of the one text, ``offsets`` being those of the tokens kept."""
        short = self._short.get(0)
        if short is not None:
            offsets = [(short.place(start), short.place(end)) for start, end in offsets]
        return first_tokens(self._whole[0], offsets)

    def _tokens(self, index: int) -> int:
        return self._short[index].tokens if index in self._short else 0

    def _owners(self, item: "Encoding") -> NDArray[np.int64]:
        if self._places is not None and isinstance(self.text, str):
            return owners_by_place(item.offsets, self.text, self._places)
        return np.array([OURS if index is None else index for index in item.sequence_ids], dtype=np.int64)


def check_room(task: str, prompt: Asked, tokenizer: "Tokenizer", max_length: int) -> None:
    """Refuses a task's prompt, filled with short texts, that leaves less than a token for each text.

    Raises:
        ConfigurationError: saying how long it is.
    """
    source, places = prompt.filled()
    owners = owners_by_place(tokenizer.encode(source).offsets, source, places)
    length = int((owners == OURS).sum())
    if length + len(places) > max_length:
        raise ConfigurationError(
            f"task {task!r}: the prompt takes {length} of max_length {max_length} tokens, which leaves no room for "
            "its texts; shorten it, or train with a larger max_length"
        )


def _words_to_lose(
    ours: NDArray[np.bool_], item: "Encoding", lengths: Sequence[int], max_length: int
) -> NDArray[np.int64]:
    """The last words of a prompt that fills the row (:func:`check_room` refuses it), so that half is left for texts."""
    words = np.flatnonzero(ours & (np.array(item.special_tokens_mask) == 0))
    room = min(sum(lengths), max_length // 2)
    return words[len(words) - min(len(words), int(ours.sum()) + room - max_length) :]


def _short(texts: Sequence[str], tokenizer: "Tokenizer", max_length: int) -> dict[int, ShortText]:
    long = [index for index, text in enumerate(texts) if len(text) > WHOLE]
    return {index: shortened(tokenizer, texts[index], max_length) for index in long}
