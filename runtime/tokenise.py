"""Texts to token ids, as in training, without transformers."""

import os
import unicodedata
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from weakref import WeakValueDictionary

import numpy as np
from numpy.typing import NDArray

from propetl.bundle.words import first_tokens
from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.rows import Text
from propetl.runtime.tokenizer_library import library_errors, load_tokenizer


@dataclass(frozen=True)
class TokenRow:
    """One row, not padded.

    Attributes:
        input_ids: int64 ``[length]``.
        token_type_ids: int64 ``[length]``; 0 for the first text, 1 for the second.
        places: of the first token of each word, int64 ``[words]``; None where words do not matter.
    """

    input_ids: NDArray[np.int64]
    token_type_ids: NDArray[np.int64]
    places: NDArray[np.int64] | None = None

    def __len__(self) -> int:
        return len(self.input_ids)


class Tokeniser:
    """The tokenizer of an artifact; gives the ids that transformers' fast tokenizer gives.

    Safe to use from many threads: nothing changes after it was made.

    Args:
        path: ``tokenizer.json``.
        max_length: tokens to which a row is truncated, longest text first.
        pad_token_id: what shorter rows of a batch are filled with.
        inputs: token inputs that the model takes.

    Raises:
        ArtifactError: the file cannot be read, or has no such padding token.
        ConfigurationError: ``max_length`` leaves no room for text beside the special tokens.
    """

    def __init__(self, path: Path, max_length: int, pad_token_id: int, inputs: Sequence[str]) -> None:
        self._path = path
        self._tokenizer = load_tokenizer(path)
        if self._tokenizer.id_to_token(pad_token_id) is None:
            raise ArtifactError(f"{path}: has no token {pad_token_id}, which is to pad rows; restore it")
        _check_room(self._tokenizer.num_special_tokens_to_add(is_pair=True), max_length)
        self._tokenizer.no_padding()
        with library_errors(path):
            self._tokenizer.enable_truncation(max_length=max_length, strategy="longest_first")
        self._pad_token_id = pad_token_id
        self._inputs = tuple(inputs)

    def rows(self, texts: Sequence[Text], with_words: Sequence[bool] | None = None) -> list[TokenRow]:
        """Token ids of each text or pair, truncated, not padded; ``with_words`` says whose words are to be found."""
        plain = [text if isinstance(text, str) or len(text) == 2 else text[0] for text in texts]
        with library_errors(self._path):
            encoded = self._tokenizer.encode_batch(plain)
        wanted = with_words or [False] * len(plain)
        return [
            TokenRow(
                np.array(item.ids, dtype=np.int64),
                np.array(item.type_ids, dtype=np.int64),
                first_tokens(str(text), item.offsets) if words else None,  # a task that tags takes one text
            )
            for text, item, words in zip(plain, encoded, wanted, strict=True)
        ]

    def pad(self, rows: Sequence[TokenRow]) -> dict[str, NDArray[np.int64]]:
        """Model inputs int64 ``[rows, longest]``; ``token_type_ids`` only if the model takes it."""
        shape = (len(rows), max(map(len, rows)))
        padded = {
            "input_ids": np.full(shape, self._pad_token_id, dtype=np.int64),
            "attention_mask": np.zeros(shape, dtype=np.int64),
            "token_type_ids": np.zeros(shape, dtype=np.int64),
        }
        for index, row in enumerate(rows):
            padded["input_ids"][index, : len(row)] = row.input_ids
            padded["attention_mask"][index, : len(row)] = 1
            padded["token_type_ids"][index, : len(row)] = row.token_type_ids
        return {name: padded[name] for name in self._inputs}

    def decode(self, tokens: NDArray[np.int64]) -> str:
        """The text of token ids ``[length]``, without special tokens."""
        with library_errors(self._path):
            text: str = self._tokenizer.decode(tokens.tolist(), skip_special_tokens=True)
        return text

    def pieces(self) -> "TextPieces":
        """For the tokens of one text that come one by one."""
        return TextPieces(self)

    def __call__(self, texts: Sequence[Text]) -> dict[str, NDArray[np.int64]]:
        """Model inputs for ``texts``, padded to the longest of them."""
        return self.pad(self.rows(texts))


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


class TextPieces:
    """One text, token by token: what is sure not to change with the tokens that follow."""

    def __init__(self, tokeniser: Tokeniser) -> None:
        self._tokeniser = tokeniser
        self._tokens: list[int] = []
        self._said = ""

    def add(self, token: int) -> str:
        """The text that ``token`` completes, often none: a word may go on; what is written without blanks may not."""
        self._tokens.append(token)
        text = self._text()
        whole = bool(text) and unicodedata.east_asian_width(text[-1]) == "W"
        return self._say(text if whole else text[: _last_blank(text) + 1])

    def rest(self) -> str:
        """What was held back."""
        return self._say(self._text())

    def _text(self) -> str:
        return self._tokeniser.decode(np.array(self._tokens, dtype=np.int64))

    def _say(self, text: str) -> str:
        if not text.startswith(self._said):
            return ""
        piece = text[len(self._said) :]
        self._said = text
        return piece


def _last_blank(text: str) -> int:
    return max((place for place, letter in enumerate(text) if letter.isspace()), default=-1)


def _check_room(special: int, max_length: int) -> None:
    if max_length <= special:
        raise ConfigurationError(
            f"max_length {max_length} leaves no room beside {special} special tokens; train with more"
        )
