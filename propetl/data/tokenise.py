"""Turns rows into token ids for training: truncated here, padded only in the batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from propetl.bundle.format import TaskInfo
from propetl.bundle.template import joined
from propetl.bundle.text import TextInfo
from propetl.bundle.words import IGNORED, NO_TOKEN, first_tokens
from propetl.data.tables import Label, Rows
from propetl.data.tasks import TaskSpec
from propetl.errors import DataError

if TYPE_CHECKING:
    from transformers import PreTrainedTokenizerFast

Example = dict[str, Any]
Collate = Callable[[list[Example]], dict[str, Tensor]]


class EncodedRows(Dataset[Example]):
    """Rows as token ids; an item is a dict of ``input_ids``, maybe ``token_type_ids``, and ``label`` or ``labels``.

    Attributes:
        columns: name -> one list of ints per row, of the row's own length.
        labels: [n] of Python ints (classes), floats (values), from which the batch's dtype follows, texts, or tuples of
            the words' tags.
        targets: for rows that are answered in text, its token ids per row; for tags, each token's label; None for
            others.
        places: for tags, the place of each word's first token per row; None for others.
    """

    def __init__(
        self,
        columns: dict[str, list[list[int]]],
        labels: Sequence[Label],
        targets: list[list[int]] | None = None,
        places: list[NDArray[np.int64]] | None = None,
    ) -> None:
        self.columns = columns
        self.labels = labels
        self.targets = targets
        self.places = places

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        inputs = {name: ids[index] for name, ids in self.columns.items()}
        if self.targets is not None:
            return {**inputs, "labels": self.targets[index]}
        return {**inputs, "label": self.labels[index]}


def encode_task_rows(
    rows: Rows,
    task: TaskSpec | TaskInfo,
    tokenizer: "PreTrainedTokenizerFast",
    max_length: int,
    *,
    continues: bool = False,
) -> EncodedRows:
    """Tokenise every row as ``task`` needs it; ``continues`` as for :func:`encode_text_rows`."""
    rows = _joined(rows, task)
    if task.text is not None:
        return encode_text_rows(rows, task.text, tokenizer, max_length, continues=continues)
    if task.problem == "tagging":
        return encode_tagged_rows(rows, task.labels, tokenizer, max_length)
    return encode_rows(rows, tokenizer, max_length)


def _joined(rows: Rows, task: TaskSpec | TaskInfo) -> Rows:
    """One text a row where the task has a template, as on a device."""
    if task.template is None:
        return rows
    return replace(rows, texts=[(joined(task.template, task.columns, row),) for row in rows.texts])


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


def encode_tagged_rows(
    rows: Rows, labels: Sequence[str], tokenizer: "PreTrainedTokenizerFast", max_length: int
) -> EncodedRows:
    """Tokenise every row; the first token of each word has its tag, the others are ignored.

    Args:
        rows: words with blanks between, and their tags.
        labels: the tags in the order of the logits.
        tokenizer: the backbone's.
        max_length: in tokens, special ones included; words behind are cut off and have no token.

    Raises:
        DataError: a row none of whose words has a token.
    """
    texts, tags = [row[0] for row in rows.texts], rows.labels.tolist()
    encoded = dict(
        tokenizer(
            texts, truncation=True, max_length=max_length, return_attention_mask=False, return_offsets_mapping=True
        )
    )
    offsets = encoded.pop("offset_mapping")
    places = [first_tokens(text, found) for text, found in zip(texts, offsets, strict=True)]
    for number, found in enumerate(places, start=1):
        if (found == NO_TOKEN).all():
            raise DataError(f"{rows.source}, row {number}: no word of it has a token; leave it out")
    targets = [
        _token_labels(found, [labels.index(tag) for tag in row], len(tokens))
        for found, row, tokens in zip(places, tags, offsets, strict=True)
    ]
    return EncodedRows(encoded, tags, targets, places)


def _token_labels(places: NDArray[np.int64], classes: list[int], tokens: int) -> list[int]:
    """The class at each word's first token, and :data:`IGNORED` at all others."""
    labels = [IGNORED] * tokens
    for place, label in zip(places.tolist(), classes, strict=True):
        if place != NO_TOKEN:
            labels[place] = label
    return labels


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
        that are answered in text or by tags, int64 [batch, longest answer] with -100 behind the end.
    """
    from transformers import DataCollatorWithPadding

    collator = DataCollatorWithPadding(tokenizer, pad_to_multiple_of=pad_to_multiple_of)

    def collate(examples: list[Example]) -> dict[str, Tensor]:
        answers = [torch.tensor(example["labels"]) for example in examples if "labels" in example]
        inputs = [{name: value for name, value in example.items() if name != "labels"} for example in examples]
        batch = dict(collator(inputs))
        return batch | ({"labels": pad_sequence(answers, batch_first=True, padding_value=IGNORED)} if answers else {})

    return collate
