import numpy as np
import pytest
import torch
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from propetl.bundle.text import TextInfo
from propetl.data.tables import Rows
from propetl.data.tokenise import collate_with, encode_answers, encode_rows, encode_text_rows
from propetl.runtime import tokenise

WORDS = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "a", "b", "c", "d", "e", "f"]
PAD, CLS, SEP, A, B, C, D, E, F = 0, 2, 3, 4, 5, 6, 7, 8, 9


@pytest.fixture
def tokenizer() -> PreTrainedTokenizerFast:
    words = Tokenizer(models.WordLevel({word: i for i, word in enumerate(WORDS)}, unk_token="[UNK]"))
    words.pre_tokenizer = pre_tokenizers.Whitespace()
    words.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", CLS), ("[SEP]", SEP)],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=words,
        pad_token="[PAD]",
        unk_token="[UNK]",
        model_input_names=["input_ids", "token_type_ids", "attention_mask"],
    )


def rows(texts: list[tuple[str, ...]], labels: list[int] | list[float]) -> Rows:
    dtype = np.float32 if isinstance(labels[0], float) else np.int64
    return Rows(texts, np.array(labels, dtype=dtype), "memory")


def test_single_sentences_are_cut_at_the_end(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_rows(rows([("a b c d",), ("e",)], [1, 0]), tokenizer, max_length=5)
    assert len(encoded) == 2
    assert encoded[0] == {"input_ids": [CLS, A, B, C, SEP], "token_type_ids": [0] * 5, "label": 1}
    assert encoded[1] == {"input_ids": [CLS, E, SEP], "token_type_ids": [0] * 3, "label": 0}


def test_the_longer_of_a_pair_is_cut_first(tokenizer: PreTrainedTokenizerFast) -> None:
    pairs: list[tuple[str, ...]] = [("a b c d", "e"), ("a", "e f e f"), ("a b", "e")]
    encoded = encode_rows(rows(pairs, [0, 1, 1]), tokenizer, max_length=6)
    assert encoded[0]["input_ids"] == [CLS, A, B, SEP, E, SEP]
    assert encoded[1]["input_ids"] == [CLS, A, SEP, E, F, SEP]
    assert encoded[2]["input_ids"] == [CLS, A, B, SEP, E, SEP]
    assert encoded[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_no_token_types_where_the_backbone_takes_none(tokenizer: PreTrainedTokenizerFast) -> None:
    tokenizer.model_input_names = ["input_ids", "attention_mask"]
    encoded = encode_rows(rows([("a", "b")], [0]), tokenizer, max_length=8)
    assert set(encoded[0]) == {"input_ids", "label"}


def test_a_batch_is_padded_to_its_longest(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_rows(rows([("a b c",), ("d",)], [1, 0]), tokenizer, max_length=16)
    batch = collate_with(tokenizer)([encoded[0], encoded[1]])
    assert batch["input_ids"].tolist() == [[CLS, A, B, C, SEP], [CLS, D, SEP, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].shape == (2, 5)
    assert batch["labels"].tolist() == [1, 0]
    assert {tensor.dtype for tensor in batch.values()} == {torch.int64}


def test_values_become_floats(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = encode_rows(rows([("a",), ("b",)], [2.5, 3.0]), tokenizer, max_length=8)
    batch = collate_with(tokenizer)([encoded[0], encoded[1]])
    assert batch["labels"].dtype == torch.float32
    assert batch["labels"].tolist() == [2.5, 3.0]
    assert batch["input_ids"].shape == (2, 3)


@pytest.mark.parametrize("continues", [False, True])
def test_answers_that_are_cut_are_counted(tokenizer: PreTrainedTokenizerFast, continues: bool) -> None:
    written = Rows([("a",)] * 3, np.array(["a b c d e f a", "a", "a b c"], dtype=object), "memory")
    length = 3 if continues else 5  # with [CLS] and [SEP] where an answer stands alone
    text = TextInfo("{}", max_target_length=length)
    encoded = encode_text_rows(written, text, tokenizer, 8, continues=continues)
    assert (encoded.targets, encoded.answers_cut) == (
        ([[A, B, C], [A], [A, B, C]] if continues else [[CLS, A, B, C, SEP], [CLS, A, SEP], [CLS, A, B, C, SEP]]),
        1,
    )


@pytest.mark.parametrize("continues", [False, True])
def test_a_long_answer_is_not_tokenised_as_a_whole(
    tokenizer: PreTrainedTokenizerFast, monkeypatch: pytest.MonkeyPatch, continues: bool
) -> None:
    read: list[int] = []

    class Counted:
        def __init__(self, backend: Tokenizer) -> None:
            self.backend = backend

        def __getattr__(self, name: str) -> object:
            return getattr(self.backend, name)

        def encode_batch(self, texts: list[str], **options: object) -> object:
            read.append(sum(map(len, texts)))
            return self.backend.encode_batch(texts, **options)

    load = tokenise.load_tokenizer
    monkeypatch.setattr(tokenise, "load_tokenizer", lambda *arguments: Counted(load(*arguments)))
    (ids,) = encode_answers(["a b c " * 200_000], tokenizer, 6, continues=continues)
    assert ids == ([A, B, C, A, B, C] if continues else [CLS, A, B, C, A, SEP])
    assert 0 < max(read) < 100_000
