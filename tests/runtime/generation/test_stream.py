"""Pieces of text as they come are together the whole text."""

import numpy as np
import pytest
from tokenizers import Tokenizer, decoders, models, pre_tokenizers

from propetl.runtime.generation.options import SpecialTokens
from propetl.runtime.generation.stream import TextStream
from propetl.runtime.tokenise import Tokeniser

END, PAD = 1, 0
BYTES = sorted(pre_tokenizers.ByteLevel.alphabet())


def unigram() -> Tokenizer:
    pieces = ["<pad>", "</s>", "▁a", "▁dog", "b", "é", "▁", "s"]
    tokenizer = Tokenizer(models.Unigram([(piece, -1.0) for piece in pieces], unk_id=2))
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    return tokenizer


def byte_level() -> Tokenizer:
    vocabulary = {token: index for index, token in enumerate(["<pad>", "</s>", *BYTES])}
    tokenizer = Tokenizer(models.BPE(vocabulary, []))
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    tokenizer.add_special_tokens(["<pad>", "</s>"])
    return tokenizer


@pytest.fixture(params=[unigram, byte_level], ids=["unigram", "bytes"])
def tokeniser(request, tmp_path):
    request.param().save(str(tmp_path / "tokenizer.json"))
    return Tokeniser(tmp_path / "tokenizer.json", 8, PAD, ("input_ids", "attention_mask"))


def streamed(tokeniser: Tokeniser, rows: list[list[int]], close: bool = True) -> dict[int, list[str]]:
    found: dict[int, list[str]] = {}
    places = 10 + np.arange(len(rows))
    stream = TextStream(
        tokeniser, SpecialTokens(0, (END,), PAD), places, lambda row, piece: found.setdefault(row, []).append(piece)
    )
    for step in range(max(map(len, rows))):
        stream(np.array([row[step] if step < len(row) else PAD for row in rows]))
    if close:
        stream.close()
    return found


def test_pieces_are_together_the_text(tokeniser) -> None:
    random = np.random.default_rng(0)
    for _ in range(50):
        rows = [[*random.integers(2, 8, size=random.integers(1, 9)).tolist(), END] for _ in range(3)]
        found = streamed(tokeniser, rows)
        for place, row in enumerate(rows):
            assert "".join(found.get(10 + place, [])) == tokeniser.decode(np.array(row))


def test_letters_of_several_bytes_come_whole(tmp_path) -> None:
    tokenizer = byte_level()
    tokenizer.save(str(tmp_path / "tokenizer.json"))
    tokeniser = Tokeniser(tmp_path / "tokenizer.json", 8, PAD, ("input_ids",))
    text = "é ü 漢字 done"
    tokens = tokenizer.encode(text).ids
    pieces = streamed(tokeniser, [[*tokens, END]])[10]
    assert "".join(pieces) == text
    assert not any("�" in piece for piece in pieces)
    assert pieces == ["é ", "ü ", "漢", "字", " ", "done"]


def test_a_word_is_handed_on_when_the_next_one_begins(tmp_path) -> None:
    unigram().save(str(tmp_path / "tokenizer.json"))
    tokeniser = Tokeniser(tmp_path / "tokenizer.json", 8, PAD, ("input_ids",))
    dog, letter, a = 3, 7, 2
    assert streamed(tokeniser, [[dog, letter]], close=False) == {}
    assert streamed(tokeniser, [[dog, letter, a]], close=False) == {10: ["dogs "]}
    assert streamed(tokeniser, [[dog, letter, a]]) == {10: ["dogs ", "a"]}


def test_what_follows_the_end_is_not_text(tokeniser) -> None:
    assert streamed(tokeniser, [[3, END, 4, 4]]) == streamed(tokeniser, [[3, END]])
