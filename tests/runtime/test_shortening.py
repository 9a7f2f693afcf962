"""Long texts are cut before they are tokenised, and nobody can tell."""

import random
import subprocess
import sys

import numpy as np
import pytest
from tokenizers import Tokenizer, models, pre_tokenizers

from propetl.runtime import shortening
from propetl.runtime.cutting import Asked
from propetl.runtime.tokenise import Tokeniser
from tests.tiny_tokenizers import KINDS, strings

INPUTS = ("input_ids", "attention_mask", "token_type_ids")
LENGTH = 24
SMALL = 500


@pytest.fixture(scope="module")
def made():
    """The same tokenizer as ours and as the library's, which cuts off what is too long."""
    found = {}
    for kind, make in KINDS.items():
        plain = make()
        found[kind] = Tokeniser(plain.to_str().encode(), LENGTH, 0, INPUTS), plain
        plain.enable_truncation(LENGTH, strategy="longest_first")
    return found


@pytest.fixture
def short(monkeypatch):
    """The same at a hundredth of the size, but more than the 100 letters behind which WordPiece knows no word."""
    for name, value in (("WHOLE", SMALL), ("_FIRST", 160), ("_LETTERS_PER_TOKEN", 1), ("_BEYOND", 8)):
        monkeypatch.setattr(shortening, name, value)
    monkeypatch.setattr("propetl.runtime.readable.WHOLE", SMALL)
    for name, value in (("_FOLLOWING", 120), ("_END", 20)):
        monkeypatch.setattr(shortening, name, value)


def long_texts():
    draw = random.Random(4)
    filler = ["\x01", " ", "\x00 \x02", "a", "é", "☃", "\u0301", "e\u0301", "中", "\n", "\t ", "[SEP]", "<pad>"]
    words = strings(60, seed=9)
    for unit in filler:
        yield unit * (4 * SMALL // len(unit))
        yield f"good{unit * (4 * SMALL)}film is bad"
        yield f"{unit * (4 * SMALL)}goo{unit * 3 * SMALL} d film"
        yield f"goo{unit * SMALL}{' ' + unit * SMALL}d film" + unit * SMALL
    for _ in range(30):
        parts = [draw.choice([draw.choice(words), draw.choice(filler) * draw.randint(1, 900)]) for _ in range(9)]
        yield "".join(parts)
    yield " ".join(words)


def uncut(own, rows, with_words=None):
    """The same rows by the library alone."""
    whole = own.limited(None)
    return whole.rows(rows, with_words)


@pytest.mark.parametrize("kind", KINDS)
def test_ids_are_those_of_the_whole_text(made, kind, short):
    own, plain = made[kind]
    texts = [text for text in long_texts() if len(text) > SMALL]
    assert len(texts) > 50
    for text, row in zip(texts, own.rows(texts), strict=True):
        assert row.input_ids.tolist() == plain.encode(text).ids, repr(text[:80])
    pairs = [(text, other) for text, other in zip(texts, ["good film", "the cat sat " * 9] * len(texts), strict=False)]
    for pair, row in zip(pairs, own.rows(pairs), strict=True):
        expected = plain.encode(*pair)
        assert row.input_ids.tolist() == expected.ids, repr(pair[0][:80])
        assert row.token_type_ids.tolist() == expected.type_ids


@pytest.mark.parametrize("kind", KINDS)
def test_words_stand_where_they_stand_in_the_whole_text(made, kind, short):
    texts = [text for text in long_texts() if text.strip()]
    own, _ = made[kind]
    found, whole = own.rows(texts, [True] * len(texts)), uncut(own, texts, [True] * len(texts))
    for text, row, full in zip(texts, found, whole, strict=True):
        kept = np.isin(full.places, np.arange(LENGTH - 1)) & (full.places >= 0)
        assert len(row.places) == len(full.places)
        for place, expected in zip(row.places[kept], full.places[kept], strict=True):
            assert place in (expected, -1), repr(text[:80])


@pytest.mark.parametrize("kind", KINDS)
def test_prompts_around_long_texts(made, kind, short, monkeypatch):
    own = made[kind][0].limited(40)
    rows = [Asked("the {} sun {} film", (text, "good cat")) for text in long_texts()]
    found = own.rows(rows)
    monkeypatch.setattr("propetl.runtime.readable.WHOLE", 10**9)
    for row, expected in zip(found, own.rows(rows), strict=True):
        np.testing.assert_array_equal(row.input_ids, expected.input_ids)


def test_a_word_that_is_weighed_as_a_whole_is_read_as_a_whole(short):
    """The best pieces of a word depend on its length: the odd piece may stand first."""
    pieces = [("<unk>", 0.0), ("a", -10.0), ("aaa", -4.0), ("▁", -1.0)]
    backend = Tokenizer(models.Unigram(pieces, unk_id=0))
    backend.pre_tokenizer = pre_tokenizers.Metaspace()
    own = Tokeniser(backend.to_str().encode(), LENGTH, 0, INPUTS)
    for count in range(1200, 1206):
        text = "a" * count
        assert own.rows([text])[0].input_ids.tolist() == backend.encode(text).ids[:LENGTH]


_MEMORY = """
import resource, sys
from pathlib import Path
from propetl.runtime.tokenise import Tokeniser
own = Tokeniser(Path(sys.argv[1]), 64, 0, ("input_ids",))
unit, last = sys.argv[2].encode().decode("unicode_escape"), " film"
text = unit * (10_000_000 // len(unit)) + last
len(text.strip())
own.rows(["a good film " * 50])
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
own.rows([text])
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024)
"""


@pytest.mark.parametrize(("kind", "unit"), [("wordpiece", "good film "), ("unigram", "good film "), ("gpt2", "a")])
def test_ten_megabytes_take_no_memory(kind, unit, tmp_path):
    (tmp_path / "tokenizer.json").write_text(KINDS[kind]().to_str())
    command = [sys.executable, "-c", _MEMORY, str(tmp_path / "tokenizer.json"), unit]
    megabytes = float(subprocess.run(command, check=True, capture_output=True, text=True).stdout)
    assert megabytes < 64
