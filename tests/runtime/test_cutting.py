"""What stays of rows that are too long."""

import itertools

import numpy as np
import pytest
from tokenizers import Tokenizer

from propetl.bundle.text import TextInfo
from propetl.errors import ConfigurationError
from propetl.runtime.cutting import Asked, lengths_to_keep
from propetl.runtime.tokenise import Tokeniser
from tests.tiny_tokenizers import KINDS, strings

INPUTS = ("input_ids", "attention_mask", "token_type_ids")


@pytest.fixture(scope="module")
def backends():
    return {kind: make() for kind, make in KINDS.items()}


def tokeniser(backend, max_length):
    return Tokeniser(backend.to_str().encode(), max_length, 0, INPUTS)


def test_of_two_texts_the_longer_loses_first_as_in_the_library():
    plain = KINDS["gpt2"]()
    letters = {len(plain.encode("a" * count).ids): "a" * count for count in range(1, 60)}
    for room in (4, 5, 7, 8):
        plain.enable_truncation(room, strategy="longest_first")
        for (first, left), (second, right) in itertools.product(list(letters.items())[:14], repeat=2):
            ids = plain.encode(left, right)
            expected = [ids.sequence_ids.count(0), ids.sequence_ids.count(1)]
            assert lengths_to_keep([first, second], room) == expected, (first, second, room)


def test_many_texts_share_the_room():
    assert lengths_to_keep([9, 1, 9], 10) == [4, 1, 5]
    assert lengths_to_keep([3, 3, 3], 20) == [3, 3, 3]
    assert lengths_to_keep([5, 2], 0) == [0, 0]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("prompt", ["the {} sun {}", "{} TL;DR:", "question: {}value{}!", "one {}{} two"])
def test_the_words_of_a_prompt_stay(backends, kind, prompt):
    """Every row is its uncut self without some tokens of its texts."""
    whole, own = tokeniser(backends[kind], None), tokeniser(backends[kind], 40)
    texts = strings(60, seed=3)
    count = prompt.count("{}")
    rows = [Asked(prompt, tuple(texts[start : start + count])) for start in range(0, 58, 2)]
    for row, cut, full in zip(rows, own.rows(rows), whole.rows(rows), strict=True):
        if len(full) <= 40:
            np.testing.assert_array_equal(cut.input_ids, full.input_ids)
            assert cut.cut == 0
            continue
        assert len(cut) == 40 and cut.cut == len(full) - 40
        assert is_part_of(cut.input_ids.tolist(), full.input_ids.tolist())
        assert row.filled()[0] == TextInfo(prompt).source(row.texts)
        read = own.decode(cut.input_ids)
        for word in prompt.replace("{}", " ").split() if kind in ("byte-bpe", "gpt2") else ():
            assert word in read  # others do not know every letter


def is_part_of(short, long):
    rest = iter(long)
    return all(token in rest for token in short)


def test_both_texts_of_a_pair_stay(backends):
    own = tokeniser(backends["unigram"], 24)
    (row,) = own.rows([Asked("the {} sun {}", ("cat " * 40, "dog dog"))])
    assert own.decode(row.input_ids).endswith("sun dog dog")
    (row,) = own.rows([Asked("the {} sun {}", ("dog", "cat " * 40))])
    assert own.decode(row.input_ids).startswith("the dog sun cat cat")


def test_a_prompt_without_room_is_refused(backends):
    own = tokeniser(backends["unigram"], 24)
    own.check_prompt("echo", TextInfo("one two: {}"))
    with pytest.raises(ConfigurationError, match=r"task 'echo': the prompt takes .* leaves no room for its texts"):
        own.check_prompt("echo", TextInfo("one " * 40 + "{}"))


def test_the_library_truncates_nothing_itself():
    assert Tokenizer.from_str(KINDS["gpt2"]().to_str()).truncation is None
