"""Turns rows into token ids for training: truncated here, padded only in the batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset

from propetl.data.tables import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Example = dict[str, Any]
Collate = Callable[[list[Example]], dict[str, Tensor]]


class EncodedRows(Dataset[Example]):
    """Rows as token ids; an item is a dict of ``input_ids``, maybe ``token_type_ids``, and ``label``.

    Attributes:
        columns: name -> one list of ints per row, of the row's own length.
        labels: [n] of Python ints (classes) or floats (values), from which the batch's dtype follows.
    """

    def __init__(self, columns: dict[str, list[list[int]]], labels: list[int] | list[float]) -> None:
        self.columns = columns
        self.labels = labels

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        return {**{name: ids[index] for name, ids in self.columns.items()}, "label": self.labels[index]}


def encode_rows(rows: Rows, tokenizer: "PreTrainedTokenizerFast", max_length: int) -> EncodedRows:
    """Tokenise every row.

    Of a pair that is too long, the longer sentence loses tokens first, from its end (``longest_first``), as
    in the runtime.

    Args:
        rows: one or two sentences each.
        tokenizer: the backbone's; its ``model_input_names`` decide whether there are ``token_type_ids``.
        max_length: in tokens, special ones included.
    """
    columns = [list(column) for column in zip(*rows.texts, strict=True)]
    encoded = tokenizer(
        *columns,
        truncation="longest_first",
        max_length=max_length,
        padding=False,
        return_attention_mask=False,
    )
    return EncodedRows(dict(encoded), rows.labels.tolist())


def collate_with(tokenizer: "PreTrainedTokenizerFast", pad_to_multiple_of: int | None = None) -> Collate:
    """A function that makes a batch of items, padded to the longest of them.

    Returns:
        A function from a list of ``EncodedRows`` items to ``input_ids``, ``attention_mask`` and maybe
        ``token_type_ids``, int64 [batch, longest], and ``labels`` [batch], int64 or float32.
    """
    from transformers import DataCollatorWithPadding

    collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)
    return lambda examples: dict(collator(examples))
