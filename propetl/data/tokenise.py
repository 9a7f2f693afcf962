"""Turns rows into token ids for training: truncated here, padded only in the batch."""

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
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


def encode_text_rows(
    rows: Rows, text: TextInfo, tokenizer: "PreTrainedTokenizerFast", max_length: int, *, continues: bool = False
) -> EncodedRows:
    """Tokenise every row as ``text`` asks it, and its answer.

    Args:
        rows: one or two texts each, and their labels.
        text: the prompt, and how labels are written.
        tokenizer: the backbone's.
        max_length: of the prompt in tokens, special ones included; cut at its end.
        continues: answers continue the prompt, as a decoder's do.
    """
    labels = rows.labels.tolist()
    sources = [text.source(row) for row in rows.texts]
    inputs = tokenizer(sources, truncation=True, max_length=max_length, return_attention_mask=False)
    answers = [text.target(label) for label in labels]
    targets = encode_answers(answers, tokenizer, text.max_target_length, continues=continues)
    return EncodedRows(dict(inputs), labels, targets)


def encode_answers(
    answers: list[str], tokenizer: "PreTrainedTokenizerFast", max_length: int | None, *, continues: bool = False
) -> list[list[int]]:
    """Answers as token ids, the end token last; one that ``continues`` its prompt begins with a blank, as words do."""
    if not continues:
        ids: list[list[int]] = tokenizer(text_target=answers, truncation=max_length is not None, max_length=max_length)[
            "input_ids"
        ]
        return ids
    bare = tokenizer([f" {answer}" for answer in answers], add_special_tokens=False)["input_ids"]
    return [[*row[: max_length - 1 if max_length else None], tokenizer.eos_token_id] for row in bare]


def collate_with(tokenizer: "PreTrainedTokenizerFast", pad_to_multiple_of: int | None = None) -> Collate:
    """A function that makes a batch of items, padded to the longest of them.

    Returns:
        A function from a list of ``EncodedRows`` items to ``input_ids``, ``attention_mask`` and maybe
        ``token_type_ids``, int64 [batch, longest], and ``labels``: [batch], int64 or float32, or, for rows
        that are answered in text, int64 [batch, longest answer] with -100 behind the end.
    """
    from transformers import DataCollatorWithPadding

    collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)

    def collate(examples: list[Example]) -> dict[str, Tensor]:
        answers = [torch.tensor(example["labels"]) for example in examples if "labels" in example]
        inputs = [{name: value for name, value in example.items() if name != "labels"} for example in examples]
        batch = dict(collator(inputs))
        return batch | ({"labels": pad_sequence(answers, batch_first=True, padding_value=-100)} if answers else {})

    return collate
