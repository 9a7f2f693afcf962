import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers, processors
from transformers import PreTrainedTokenizerFast

from propetl.data.tokenise import Tokeniser

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


def tokeniser(tokenizer: PreTrainedTokenizerFast, max_length: int, token_types: bool = True) -> Tokeniser:
    return Tokeniser(tokenizer, max_length, PAD, token_types)


def test_single_sentences_are_cut_at_the_end(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokeniser(tokenizer, 5).encode([("a b c d",), ("e",)])
    assert encoded[0] == {"input_ids": [CLS, A, B, C, SEP], "token_type_ids": [0] * 5}
    assert encoded[1] == {"input_ids": [CLS, E, SEP], "token_type_ids": [0] * 3}


def test_the_longer_of_a_pair_is_cut_first(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokeniser(tokenizer, 6).encode([("a b c d", "e"), ("a", "e f e f"), ("a b", "e")])
    assert encoded[0]["input_ids"] == [CLS, A, B, SEP, E, SEP]
    assert encoded[1]["input_ids"] == [CLS, A, SEP, E, F, SEP]
    assert encoded[2]["input_ids"] == [CLS, A, B, SEP, E, SEP]
    assert encoded[0]["token_type_ids"] == [0, 0, 0, 0, 1, 1]


def test_no_token_types_where_the_backbone_takes_none(tokenizer: PreTrainedTokenizerFast) -> None:
    encoded = tokeniser(tokenizer, 8, token_types=False).encode([("a", "b")])
    assert set(encoded[0]) == {"input_ids"}


def test_a_batch_is_padded_to_its_longest(tokenizer: PreTrainedTokenizerFast) -> None:
    whole = tokeniser(tokenizer, 16)
    batch = whole.pad(whole.encode([("a b c",), ("d",)]))
    assert batch["input_ids"].tolist() == [[CLS, A, B, C, SEP], [CLS, D, SEP, PAD, PAD]]
    assert batch["attention_mask"].tolist() == [[1] * 5, [1, 1, 1, 0, 0]]
    assert batch["token_type_ids"].shape == (2, 5)
    assert {array.dtype for array in batch.values()} == {np.dtype(np.int64)}
