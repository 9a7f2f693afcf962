"""Turns rows into token ids for training, as a device does: truncated here, padded only in the batch."""

from collections.abc import Callable, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.nn.utils.rnn import pad_sequence
from torch.utils.data import Dataset

from propetl.bundle.template import joined
from propetl.bundle.text import TextInfo
from propetl.bundle.words import IGNORED, NO_TOKEN
from propetl.data.tables import Label, Rows
from propetl.errors import DataError
from propetl.runtime.cutting import Asked
from propetl.runtime.rows import Text
from propetl.runtime.tokenise import Tokeniser, TokenRow
from propetl.task import TaskSpec

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
        cut: tokens of each row that were cut off, int64 ``[n]``.
        answers_cut: rows whose answer was cut off.
    """

    def __init__(
        self,
        columns: dict[str, list[list[int]]],
        labels: Sequence[Label],
        targets: list[list[int]] | None = None,
        places: list[NDArray[np.int64]] | None = None,
        cut: NDArray[np.int64] | None = None,
        answers_cut: int = 0,
    ) -> None:
        self.columns = columns
        self.labels = labels
        self.targets = targets
        self.places = places
        self.cut = np.zeros(len(labels), dtype=np.int64) if cut is None else cut
        self.answers_cut = answers_cut

    def __len__(self) -> int:
        return len(self.labels)

    def __getitem__(self, index: int) -> Example:
        inputs = {name: ids[index] for name, ids in self.columns.items()}
        if self.targets is not None:
            return {**inputs, "labels": self.targets[index]}
        return {**inputs, "label": self.labels[index]}


def tokeniser_of(tokenizer: "Tokeniser | PreTrainedTokenizerFast", max_length: int | None) -> Tokeniser:
    """``tokenizer`` at a length; the settings of transformers' own for padding and truncating do not count."""
    if isinstance(tokenizer, Tokeniser):
        return tokenizer.limited(max_length)
    content = tokenizer.backend_tokenizer.to_str().encode()
    pad = tokenizer.pad_token_id if tokenizer.pad_token_id is not None else tokenizer.eos_token_id
    return Tokeniser(content, max_length, pad or 0, tokenizer.model_input_names, tokenizer.eos_token_id)


def encode_task_rows(
    rows: Rows,
    task: TaskSpec,
    tokenizer: "Tokeniser | PreTrainedTokenizerFast",
    max_length: int,
    *,
    continues: bool = False,
) -> EncodedRows:
    """Tokenise every row as ``task`` needs it; ``continues`` as for :func:`encode_text_rows`."""
    rows = _joined(rows, task)
    return task.kind.encode(rows, task, tokeniser_of(tokenizer, max_length), max_length, continues=continues)


def _joined(rows: Rows, task: TaskSpec) -> Rows:
    """One text a row where the task has a template, as on a device."""
    if task.template is None:
        return rows
    return replace(rows, texts=[(joined(task.template, task.columns, row),) for row in rows.texts])


def encode_rows(rows: Rows, tokenizer: "Tokeniser | PreTrainedTokenizerFast", max_length: int) -> EncodedRows:
    """Tokenise every row.

    Of a pair that is too long, the longer sentence loses tokens first, from its end (``longest_first``).

    Args:
        rows: one or two sentences each.
        tokenizer: the backbone's; its inputs decide whether there are ``token_type_ids``.
        max_length: in tokens, special ones included.
    """
    tokeniser = tokeniser_of(tokenizer, max_length)
    found = tokeniser.rows([_text(row) for row in rows.texts])
    return EncodedRows(_columns(found, tokeniser), rows.labels.tolist(), cut=_cut(found))


def encode_tagged_rows(
    rows: Rows, labels: Sequence[str], tokenizer: "Tokeniser | PreTrainedTokenizerFast", max_length: int
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
    tokeniser, tags = tokeniser_of(tokenizer, max_length), rows.labels.tolist()
    found = tokeniser.rows([row[0] for row in rows.texts], [True] * len(rows.texts))
    places = [row.places for row in found if row.places is not None]
    for number, here in enumerate(places, start=1):
        if (here == NO_TOKEN).all():
            raise DataError(f"{rows.source}, row {number}: no word of it has a token; leave it out")
    targets = [
        _token_labels(here, [labels.index(tag) for tag in row], len(tokens))
        for here, row, tokens in zip(places, tags, found, strict=True)
    ]
    return EncodedRows(_columns(found, tokeniser), tags, targets, places, _cut(found))


def _token_labels(places: NDArray[np.int64], classes: list[int], tokens: int) -> list[int]:
    """The class at each word's first token, and :data:`IGNORED` at all others."""
    labels = [IGNORED] * tokens
    for place, label in zip(places.tolist(), classes, strict=True):
        if place != NO_TOKEN:
            labels[place] = label
    return labels


def encode_text_rows(
    rows: Rows,
    text: TextInfo,
    tokenizer: "Tokeniser | PreTrainedTokenizerFast",
    max_length: int,
    *,
    continues: bool = False,
) -> EncodedRows:
    """Tokenise every row as ``text`` asks it, and its answer.

    Args:
        rows: one or two texts each, and their labels.
        text: the prompt, and how labels are written.
        tokenizer: the backbone's.
        max_length: of the prompt in tokens, special ones included; the texts in it are cut, the longer first.
        continues: answers continue the prompt, as a decoder's do.

    Raises:
        ConfigurationError: the prompt leaves no room for a row's texts.
    """
    tokeniser, labels = tokeniser_of(tokenizer, max_length), rows.labels.tolist()
    found = tokeniser.rows([Asked(text.prompt, tuple(row)) for row in rows.texts])
    answers = [text.target(label) for label in labels]
    targets, answers_cut = _cut_answers(answers, tokeniser, text.max_target_length, continues)
    return EncodedRows(_columns(found, tokeniser), labels, targets, cut=_cut(found), answers_cut=answers_cut)


def encode_answers(
    answers: Sequence[str],
    tokenizer: "Tokeniser | PreTrainedTokenizerFast",
    max_length: int | None,
    *,
    continues: bool = False,
) -> list[list[int]]:
    """Answers as token ids, the end token last; one that ``continues`` its prompt begins with a blank, as words do."""
    return _cut_answers(answers, tokeniser_of(tokenizer, None), max_length, continues)[0]


def _cut_answers(
    answers: Sequence[str], tokeniser: Tokeniser, max_length: int | None, continues: bool
) -> tuple[list[list[int]], int]:
    """Token ids of each answer, and how many answers lost tokens."""
    if not continues:
        rows = tokeniser.limited(max_length).rows(answers)
        return [row.input_ids.tolist() for row in rows], sum(row.cut > 0 for row in rows)
    end = [] if tokeniser.end_token_id is None else [tokeniser.end_token_id]
    room = None if max_length is None else max_length - len(end)
    # One token more shows that an answer is cut.
    bare = tokeniser.bare([f" {answer}" for answer in answers], None if room is None else room + 1)
    return [[*row[:room], *end] for row in bare], sum(room is not None and len(row) > room for row in bare)


def _text(row: Sequence[str]) -> Text:
    return row[0] if len(row) == 1 else (row[0], row[1])


def _columns(rows: Sequence[TokenRow], tokeniser: Tokeniser) -> dict[str, list[list[int]]]:
    columns = {"input_ids": [row.input_ids.tolist() for row in rows]}
    if "token_type_ids" in tokeniser.inputs:
        columns["token_type_ids"] = [row.token_type_ids.tolist() for row in rows]
    return columns


def _cut(rows: Sequence[TokenRow]) -> NDArray[np.int64]:
    return np.array([row.cut for row in rows], dtype=np.int64)


def collate_with(tokenizer: "Tokeniser | PreTrainedTokenizerFast") -> Collate:
    """A function that makes a batch of items, padded behind to the longest of them.

    Returns:
        A function from a list of ``EncodedRows`` items to ``input_ids``, ``attention_mask`` and maybe
        ``token_type_ids``, int64 [batch, longest], and ``labels``: [batch], int64 or float32, or, for rows
        that are answered in text or by tags, int64 [batch, longest answer] with -100 behind the end.
    """
    fillers = {"input_ids": tokeniser_of(tokenizer, None).pad_token_id, "token_type_ids": 0}

    def collate(examples: list[Example]) -> dict[str, Tensor]:
        ids = [torch.tensor(example["input_ids"]) for example in examples]
        batch = {"attention_mask": pad_sequence([torch.ones_like(row) for row in ids], batch_first=True)}
        for name, filler in fillers.items():
            if name in examples[0]:
                columns = [torch.tensor(example[name]) for example in examples]
                batch[name] = pad_sequence(columns, batch_first=True, padding_value=filler)
        return batch | {"labels": _labels(examples)}

    return collate


def _labels(examples: list[Example]) -> Tensor:
    if "label" in examples[0]:
        return torch.tensor([example["label"] for example in examples])
    answers = [torch.tensor(example["labels"]) for example in examples]
    return pad_sequence(answers, batch_first=True, padding_value=IGNORED)
