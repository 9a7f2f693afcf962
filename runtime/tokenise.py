"""Texts to token ids: the one way of training, evaluation, export and devices, without transformers."""

import copy
import os
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.text import PLACE, TextInfo
from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.cutting import Asked
from propetl.runtime.readable import ReadableRow, Row, check_room
from propetl.runtime.tokenizer_library import library_errors, load_tokenizer

if TYPE_CHECKING:
    from tokenizers import Encoding

    from propetl.runtime.truncation import Truncation

_LETTERS_AT_ONCE = 1 << 18  # of rows that are tokenised together: the library keeps some 100 bytes for each


@dataclass(frozen=True)
class TokenRow:
    """One row, not padded.

    Attributes:
        input_ids: int64 ``[length]``.
        token_type_ids: int64 ``[length]``; 0 for the first text, 1 for the second.
        places: of the first token of each word, int64 ``[words]``; None where words do not matter.
        cut: tokens that were cut off, an estimate where a text is longer than
            :data:`~propetl.runtime.shortening.WHOLE`.
    """

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    places: NDArray[np.int64] | None = None
    cut: int = 0

    def __len__(self) -> int:
        return len(self.input_ids)


class Tokeniser:
    """Gives the ids that transformers' fast tokenizer gives at its defaults, padded and truncated at the right.

    Padding and truncation that stand in the file do not count. Safe to use from many threads: nothing changes
    after it was made.

    Args:
        source: ``tokenizer.json``, or its content.
        max_length: tokens to which a row is truncated, longest text first; None truncates nothing.
        pad_token_id: what shorter rows of a batch are filled with.
        inputs: token inputs that the model takes.
        end_token_id: ends an answer that a decoder writes; None where only the number of tokens does.

    Raises:
        ArtifactError: the file cannot be read, or has no such padding token.
        ConfigurationError: ``max_length`` leaves no room for text beside the special tokens.
    """

    def __init__(
        self,
        source: Path | bytes,
        max_length: int | None,
        pad_token_id: int,
        inputs: Sequence[str],
        end_token_id: int | None = None,
    ) -> None:
        self._path = Path("tokenizer.json") if isinstance(source, bytes) else source
        self._tokenizer = load_tokenizer(self._path, source if isinstance(source, bytes) else None)
        if self._tokenizer.id_to_token(pad_token_id) is None:
            raise ArtifactError(f"{self._path}: has no token {pad_token_id}, which is to pad rows; restore it")
        self._tokenizer.no_padding()
        self._tokenizer.no_truncation()
        self.max_length = max_length
        self.pad_token_id = pad_token_id
        self.end_token_id = end_token_id
        self.inputs = tuple(inputs)
        self._count: Truncation | None = None
        self._origin: Tokeniser | None = None
        self.check_room()

    def limited(self, max_length: int | None) -> "Tokeniser":
        """The same for another length; both share what was read."""
        other = self._copy()
        other.max_length = max_length
        return other

    def counted_by(self, count: "Truncation | None") -> "Tokeniser":
        """The same, which counts rows in ``count``, or nowhere."""
        other = self._copy()
        other._count = count
        return other

    def _copy(self) -> "Tokeniser":
        other = copy.copy(self)
        other._origin = self  # which is shared for as long as any copy of it is used
        return other

    def check_room(self) -> None:
        """Refuses a length that leaves no room for a pair of texts beside the special tokens."""
        special = self._tokenizer.num_special_tokens_to_add(is_pair=True)
        if self.max_length is not None and self.max_length <= special:
            raise ConfigurationError(
                f"max_length {self.max_length} leaves no room beside {special} special tokens; train with more"
            )

    def check_prompt(self, task: str, text: TextInfo) -> None:
        """Refuses the prompt of ``task`` if it leaves no room for its texts, as a :class:`ConfigurationError`."""
        if self.max_length is not None:
            asked = Asked(text.prompt, ("a",) * text.prompt.count(PLACE))
            check_room(task, asked, self._tokenizer, self.max_length)

    def rows(self, texts: Sequence[Row], with_words: Sequence[bool] | None = None) -> list[TokenRow]:
        """Token ids of each row, truncated, not padded; ``with_words`` says whose words are to be found."""
        wanted = [False] * len(texts) if with_words is None else with_words
        made: list[TokenRow] = []
        with library_errors(self._path):
            for group in self._groups(texts, self.max_length):
                encoded = self._tokenizer.encode_batch([row.text for row in group])
                chosen = wanted[len(made) : len(made) + len(group)]
                made += [_token_row(row, item, words) for row, item, words in zip(group, encoded, chosen, strict=True)]
        if self._count is not None:
            self._count.add(made)
        return made

    def _groups(self, rows: Sequence[Row], max_length: int | None) -> Iterator[list[ReadableRow]]:
        """Rows that are tokenised together: of so many letters that memory does not grow with their number."""
        group: list[ReadableRow] = []
        letters = 0
        for row in rows:
            readable = ReadableRow(row, self._tokenizer, max_length)
            if group and letters + readable.letters > _LETTERS_AT_ONCE:
                yield group
                group, letters = [], 0
            group.append(readable)
            letters += readable.letters
        if group:
            yield group

    def pad(self, rows: Sequence[TokenRow]) -> dict[str, NDArray[np.int64]]:
        """Model inputs int64 ``[rows, longest]``; ``token_type_ids`` only if the model takes it."""
        shape = (len(rows), max(map(len, rows)))
        padded = {
            "input_ids": np.full(shape, self.pad_token_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "token_type_ids": np.zeros(shape, dtype=np.int64),
        }
        for index, row in enumerate(rows):
            padded["input_ids"][index, : len(row)] = row.input_ids
            padded["attention_mask"][index, : len(row)] = 1
            padded["token_type_ids"][index, : len(row)] = row.token_type_ids
        return {name: padded[name] for name in self.inputs}

    def bare(self, texts: Sequence[str], most: int | None = None) -> list[list[int]]:
        """The first ``most`` token ids of each text, or all, without special tokens."""
        found: list[list[int]] = []
        with library_errors(self._path):
            for group in self._groups(texts, most):
                encoded = self._tokenizer.encode_batch([row.text for row in group], add_special_tokens=False)
                found += [item.ids[:most] for item in encoded]
        return found

    def decode(self, tokens: NDArray[np.int64]) -> str:
        """The text of token ids ``[length]``, without special tokens."""
        with library_errors(self._path):
            text: str = self._tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
        return text

    def decode_batch(self, rows: Sequence[Sequence[int]]) -> list[str]:
        """The texts of rows of token ids, without special tokens."""
        with library_errors(self._path):
            texts: list[str] = self._tokenizer.decode_batch([list(row) for row in rows], skip_special_tokens=True)
        return texts

    def __call__(self, texts: Sequence[Row]) -> dict[str, NDArray[np.int64]]:
        """Model inputs for ``texts``, padded to the longest of them."""
        return self.pad(self.rows(texts))


def _token_row(row: ReadableRow, item: "Encoding", with_words: bool) -> TokenRow:
    ids, types = np.array(item.ids, dtype=np.int64), np.array(item.type_ids, dtype=np.int64)
    kept, cut = row.kept(item)
    places = None
    if with_words:
        offsets = item.offsets
        places = row.words(offsets if kept is None else [offsets[index] for index in kept])
    if kept is not None:
        ids, types = ids[kept], types[kept]
    return TokenRow(ids, types, places, cut)


_shared: WeakValueDictionary[tuple[object, ...], Tokeniser] = WeakValueDictionary()


def shared_tokeniser(path: Path, max_length: int, pad_token_id: int, inputs: Sequence[str]) -> Tokeniser:
    """:class:`Tokeniser`, the same for all who ask for the same file: one of 30,000 tokens takes 7 MB."""
    status = path.stat()
    file = (os.path.realpath(path), status.st_ino, status.st_mtime_ns, status.st_size)
    key = (*file, max_length, pad_token_id, tuple(inputs))
    found = _shared.get(key)
    if found is None:
        found = _shared[key] = Tokeniser(path, max_length, pad_token_id, inputs)
    return found
