"""Files of words and tags, and what becomes of them as tokens."""

import json
from pathlib import Path

import pytest
from transformers import AutoTokenizer

from propetl.data.tables import load_split
from propetl.data.tokenise import collate_with, encode_tagged_rows
from propetl.errors import ConfigurationError, DataError
from propetl.task import TaskSpec
from tests.tiny_backbone import tiny_backbone

LABELS = ("O", "B-PER", "I-PER")
NER = TaskSpec.from_mapping("ner", {"problem": "tagging", "labels": list(LABELS)})

CONLL = """-DOCSTART- -X- O

Ada NNP B-PER
Lovelace\tNNP\tI-PER
wrote VBD O


10\u00a0000 CD O
"""


def rows_of(path: Path, spec: TaskSpec = NER):
    return load_split(spec, path, "train")


def written(folder: Path, name: str, content: str) -> Path:
    path = folder / name
    path.write_text(content, "utf-8")
    return path


def test_defaults_of_a_tagging() -> None:
    assert (NER.columns, NER.label_column, NER.outputs) == (("tokens",), "tags", 3)
    assert NER.metrics == ("entity_f1",)
    words = TaskSpec.from_mapping("pos", {"problem": "tagging", "labels": ["NOUN", "VERB"]})
    assert words.metrics == ("word_accuracy",)


@pytest.mark.parametrize(
    ("mapping", "wrong"),
    [
        ({"columns": ["tokens", "pos"]}, "one column"),
        ({"labels": ["NOUN", "VERB"], "metrics": "entity_f1"}, "do not name entities"),
        ({"labels": ["O"]}, "two or more"),
        ({"metrics": "accuracy"}, "entity_f1, entity_precision, entity_recall, word_accuracy"),
    ],
)
def test_a_definition_that_does_not_fit_is_refused(mapping: dict[str, object], wrong: str) -> None:
    with pytest.raises(ConfigurationError, match=wrong):
        TaskSpec.from_mapping("ner", {"problem": "tagging", "labels": list(LABELS)} | mapping)


def test_columns_become_sentences(tmp_path: Path) -> None:
    found = rows_of(written(tmp_path, "train.conll", CONLL))
    assert found.texts == [("Ada Lovelace wrote",), ("10\u00a0000",)]
    assert found.labels.tolist() == [("B-PER", "I-PER", "O"), ("O",)]


def test_another_column_by_its_number(tmp_path: Path) -> None:
    spec = TaskSpec.from_mapping("pos", {"problem": "tagging", "label": "2", "labels": ["NNP", "VBD", "CD"]})
    found = rows_of(written(tmp_path, "train.conll", CONLL), spec)
    assert found.labels.tolist() == [("NNP", "NNP", "VBD"), ("CD",)]


def test_lists_and_texts_in_tables(tmp_path: Path) -> None:
    lines = [{"tokens": ["Ada", "wrote"], "tags": ["B-PER", "O"]}, {"tokens": "She wrote", "tags": "O O"}]
    found = rows_of(written(tmp_path, "train.jsonl", "\n".join(map(json.dumps, lines))))
    assert found.texts == [("Ada wrote",), ("She wrote",)]
    assert found.labels.tolist() == [("B-PER", "O"), ("O", "O")]


@pytest.mark.parametrize(
    ("name", "content", "wrong"),
    [
        ("train.conll", "Ada B-PER\nwrote O x\n", r"train.conll, line 2: 3 columns where the first line has 2"),
        ("train.conll", "Ada\n", r"train.conll, line 1: one column"),
        (
            "train.conll",
            "Ada O\n\nwrote O\nit X\n",
            r"line 3, word 2: label 'X' is unknown: task ner has 0 \(O\)",
        ),
        ("train.jsonl", '{"tokens": ["a"], "tags": []}', r"line 1: 1 words and 0 tags"),
        ("train.jsonl", '{"tokens": [], "tags": []}', r"line 1: a sentence has no words"),
        ("train.jsonl", '{"tokens": ["New York"], "tags": ["O"]}', r"line 1: word 1, 'New York', is none"),
        ("train.jsonl", '{"tokens": ["a", 3], "tags": ["O", "O"]}', r"line 1: word 2, 3, is none"),
        ("train.jsonl", '{"tokens": ["a"], "tags": [true]}', r"line 1, word 1: label 'true' is unknown"),
        ("train.jsonl", '{"tokens": ["a", "b"], "tags": ["O", null]}', r"line 1: word 2, 'b', has no tag"),
        ("train.jsonl", '{"tokens": ["a", "b"], "tags": ["I-PER", 0]}', r"line 1, word 2: label '0' is a class index"),
        ("train.jsonl", '{"tokens": {"a": 1}, "tags": ["O"]}', r"line 1: a list of words or tags expected"),
        ("train.jsonl", '{"tokens": ["\\ud800"], "tags": ["O"]}', r"line 1: not JSON .not valid Unicode"),
    ],
)
def test_a_row_that_cannot_be_used_is_named(tmp_path: Path, name: str, content: str, wrong: str) -> None:
    with pytest.raises(DataError, match=wrong):
        rows_of(written(tmp_path, name, content))


@pytest.fixture(scope="module")
def tokenizer(tmp_path_factory):
    return AutoTokenizer.from_pretrained(tiny_backbone(tmp_path_factory.mktemp("bert")))


class TestTokens:
    def test_the_first_token_of_a_word_has_its_tag(self, tokenizer, tmp_path: Path) -> None:
        found = rows_of(written(tmp_path, "train.conll", "man B-PER\nzoo I-PER\nis O\n"))
        encoded = encode_tagged_rows(found, LABELS, tokenizer, max_length=16)
        assert tokenizer.convert_ids_to_tokens(encoded.columns["input_ids"][0]) == [
            "[CLS]", "man", "z", "##o", "##o", "is", "[SEP]"
        ]  # fmt: skip
        assert encoded.targets == [[-100, 1, 2, -100, -100, 0, -100]]
        assert encoded.places is not None
        assert encoded.places[0].tolist() == [1, 2, 5]

    def test_words_beyond_the_length_have_no_token(self, tokenizer, tmp_path: Path) -> None:
        found = rows_of(written(tmp_path, "train.conll", "man B-PER\nzoo I-PER\nis O\n\nis O\n"))
        encoded = encode_tagged_rows(found, LABELS, tokenizer, max_length=4)
        assert encoded.places is not None
        assert [places.tolist() for places in encoded.places] == [[1, 2, -1], [1]]
        batch = collate_with(tokenizer)([encoded[0], encoded[1]])
        assert batch["labels"].tolist() == [[-100, 1, 2, -100], [-100, 0, -100, -100]]
        assert batch["labels"].shape == batch["input_ids"].shape

    def test_a_row_without_any_token_is_refused(self, tokenizer, tmp_path: Path) -> None:
        found = rows_of(written(tmp_path, "train.conll", "man O\n\n\u200b O\n"))
        with pytest.raises(DataError, match="row 2: no word of it has a token"):
            encode_tagged_rows(found, LABELS, tokenizer, max_length=8)
