"""Turns rows into token ids for training: truncated here, padded only in the batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from torch import Tensor
from torch.utils.data import Dataset

from propetl.bundle.text import TextInfo
from propetl.data.tables import Rows

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Example = dict[str, Any]
Collate = Callable[[list[Example]], dict[str, Tensor]]


class EncodedRows(Dataset[Example]):
    """Rows as token ids; an item is a dict of ``input_ids``, maybe ``token_type_ids``, and ``label`` or ``labels``.

    Attributes:
        columns: name -> one list of ints per row, of the row's own length.
        labels: [n] of Python ints (classes), floats (values), from which the batch's dtype follows, or texts.
        targets: for rows that are answered in text, its token ids per row; None for others.
    """

    def __init__(
        self,
        columns: dict[str, list[list[int]]],
        labels: list[int] | list[float] | list[str],
        targets: list[list[int]] | None = None,
    ) -> None:
        self.columns = columns
        self.labels = labels
        self.targets = targets

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        inputs = {name: ids[index] for name, ids in self.columns.items()}
        if self.targets is not None:
            return {**inputs, "labels": self.targets[index]}
        return {**inputs, "label": self.labels[index]}


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


def encode_text_rows(rows: Rows, text: TextInfo, tokenizer: "PreTrainedTokenizerFast", max_length: int) -> EncodedRows:
    """Tokenise every row as ``text`` asks it, and its answer.

    Args:
        rows: one or two texts each, and their labels.
        text: the prompt, and how labels are written.
        tokenizer: the backbone's.
        max_length: of the prompt in tokens, special ones included; cut at its end.
    """
    labels = rows.labels.tolist()
    sources = [text.source(row) for row in rows.texts]
    options = {"truncation": True, "padding": False, "return_attention_mask": False}
    inputs = tokenizer(sources, max_length=max_length, **options)
    answers = [text.target(label) for label in labels]
    targets = tokenizer(text_target=answers, max_length=text.max_target_length, **options)
    return EncodedRows(dict(inputs), labels, targets["input_ids"])


def collate_with(tokenizer: "PreTrainedTokenizerFast", pad_to_multiple_of: int | None = None) -> Collate:
    """A function that makes a batch of items, padded to the longest of them.

    Returns:
        A function from a list of ``EncodedRows`` items to ``input_ids``, ``attention_mask`` and maybe
        ``token_type_ids``, int64 [batch, longest], and ``labels``: [batch], int64 or float32, or, for rows
        that are answered in text, int64 [batch, longest answer] with -100 behind the end.
    """
    from transformers import DataCollatorForSeq2Seq, DataCollatorWithPadding

    heads = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)
    texts = DataCollatorForSeq2Seq(tokenizer, pad_to_multiple_of=pad_to_multiple_of)
    return lambda examples: dict((texts if "labels" in examples[0] else heads)(examples))
