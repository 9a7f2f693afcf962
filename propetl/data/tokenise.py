"""From texts to token ids with transformers' tokenizer, the same way for training, samples and parity."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerBase

    from propetl.backbone import Backbone


@dataclass(frozen=True)
class Tokeniser:
    """From texts to token ids, the same way for training and for the bundle's samples.

    Attributes:
        tokenizer: of the backbone.
        max_length: longer input is truncated, the longer of two texts first.
        pad_token_id: fills short rows.
        token_types: whether the backbone reads ``token_type_ids``.
    """

    tokenizer: "PreTrainedTokenizerBase"
    max_length: int
    pad_token_id: int
    token_types: bool

    def encode(self, texts: Sequence[tuple[str, ...]]) -> list[dict[str, list[int]]]:
        """Token ids per row by model input, without the attention mask, unpadded."""
        columns = [list(column) for column in zip(*texts, strict=True)]
        encoded = self.tokenizer(
            *columns, truncation=True, max_length=self.max_length, return_token_type_ids=self.token_types
        )
        names = ("input_ids", "token_type_ids") if self.token_types else ("input_ids",)
        return [{name: encoded[name][row] for name in names} for row in range(len(texts))]

    def pad(self, rows: Sequence[Mapping[str, list[int]]]) -> dict[str, NDArray[np.int64]]:
        """Model inputs int64 ``[rows, longest]``, with ``attention_mask`` 1 at real tokens."""
        longest = max(len(row["input_ids"]) for row in rows)
        padded = {
            name: np.zeros((len(rows), longest), dtype=np.int64) for name in (*rows[0], "attention_mask")
        }
        padded["input_ids"][:] = self.pad_token_id
        for place, row in enumerate(rows):
            for name, ids in row.items():
                padded[name][place, : len(ids)] = ids
            padded["attention_mask"][place, : len(row["input_ids"])] = 1
        return padded


def tokeniser_of(backbone: "Backbone", max_length: int) -> Tokeniser:
    """The tokeniser that ``backbone`` reads, truncating at ``max_length`` tokens."""
    return Tokeniser(backbone.tokenizer(), max_length, backbone.pad_token_id, backbone.family.takes_token_types)
