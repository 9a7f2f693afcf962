"""The ids of JavaScript are those of Python."""

import json
from itertools import pairwise

import pytest
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers, processors, trainers

from propetl.runtime.tokenise import Tokeniser
from tests.runtime.web.node_packages import node
from tests.runtime.web.strings import rows_of
from tests.runtime.web.web_artifact import bert_tokenizer_json

ROWS = 10_000
SPECIAL = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")
CORPUS = [row if isinstance(row, str) else " ".join(row) for row in rows_of(600, seed=99, longest=20)]


def word_piece(**normalizer):
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer(**normalizer)
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(vocab_size=1500, special_tokens=SPECIAL, show_progress=False)
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=[("[CLS]", 2), ("[SEP]", 3)]
    )
    return tokenizer


def like_mpnet():
    """Special tokens in small letters, behind a normalizer that makes letters small."""
    tokenizer = word_piece()
    tokenizer.add_special_tokens(["<s>", "</s>", AddedToken("<mask>", lstrip=True, rstrip=True, special=True)])
    tokenizer.add_tokens([AddedToken("Wonderful", normalized=True)])
    first, last = (("<s>", tokenizer.token_to_id("<s>")), ("</s>", tokenizer.token_to_id("</s>")))
    tokenizer.post_processor = processors.RobertaProcessing(last, first)
    return tokenizer


def byte_level(prefix):
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=prefix)
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    special = ["<s>", "<pad>", "</s>", "<unk>"]
    trainer = trainers.BpeTrainer(
        vocab_size=1500, special_tokens=special, initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(CORPUS, trainer)
    tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer


def like_roberta():
    tokenizer = byte_level(prefix=False)
    tokenizer.post_processor = processors.RobertaProcessing(("</s>", 2), ("<s>", 0))
    return tokenizer


def like_gpt2():
    tokenizer = byte_level(prefix=True)
    tokenizer.post_processor = processors.ByteLevel()
    return tokenizer


def with_its_own_settings():
    """Truncation and padding that stand in the file do not count."""
    tokenizer = word_piece()
    tokenizer.enable_truncation(7, strategy="only_first", direction="left")
    tokenizer.enable_padding(length=9, direction="left")
    return tokenizer


KINDS = {
    "bert": (word_piece, 20),
    "bert, cased": (lambda: word_piece(lowercase=False), 21),
    "bert, cased, no accents": (lambda: word_piece(lowercase=False, strip_accents=True, clean_text=False), 32),
    "bert, accents": (lambda: word_piece(strip_accents=False, handle_chinese_chars=False), 22),
    "mpnet": (like_mpnet, 23),
    "roberta": (like_roberta, 30),
    "gpt2": (like_gpt2, 25),
    "own settings": (with_its_own_settings, 20),
}


@pytest.fixture(scope="module")
def found(module, tmp_path_factory):
    """By kind: the rows, what Python makes of them, and what JavaScript does."""
    cases, expected = [], []
    for seed, (make, length) in enumerate(KINDS.values()):
        path = tmp_path_factory.mktemp("kind") / "tokenizer.json"
        make().save(str(path))
        rows = rows_of(ROWS // len(KINDS), seed, longest=length)
        made = Tokeniser(path, length, 0, INPUTS).rows(rows)
        expected.append([[row.input_ids.tolist(), row.token_type_ids.tolist()] for row in made])
        manifest = {"max_length": length, "pad_token_id": 0}
        cases.append({"json": path.read_text("utf-8"), "manifest": manifest, "inputs": INPUTS, "texts": rows})
    answers = node("tokenise.mjs", given={"module": str(module), "cases": cases})
    return {
        kind: (case["texts"], theirs, mine)
        for kind, case, theirs, mine in zip(KINDS, cases, expected, answers, strict=True)
    }


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_ten_thousand_texts_have_the_ids_of_python(found, kind):
    rows, expected, answers = found[kind]
    assert isinstance(answers, list), answers
    wrong = [ascii(row) for row, theirs, mine in zip(rows, expected, answers, strict=True) if theirs != mine]
    assert wrong == []
    longest = max(len(ids) for ids, _ in expected)
    assert longest == KINDS[kind][1]
    assert {len(ids) for ids, _ in expected} >= {longest - 2, longest - 1, longest}


def rows_by_javascript(module, change, texts, length=16):
    value = bert_tokenizer_json()
    change(value)
    manifest = {"max_length": length, "pad_token_id": 0}
    case = {"json": json.dumps(value), "manifest": manifest, "inputs": INPUTS, "texts": texts}
    return node("tokenise.mjs", given={"module": str(module), "cases": [case]})[0]


@pytest.mark.parametrize(
    ("part", "value"),
    [
        ("normalizer", {"type": "NFKC"}),
        ("normalizer", {"type": "Sequence", "normalizers": []}),
        ("pre_tokenizer", {"type": "Whitespace"}),
        ("pre_tokenizer", None),
        ("pre_tokenizer", {"type": "ByteLevel", "add_prefix_space": False, "use_regex": False}),
        ("model", {"type": "Unigram", "vocab": [["a", 0.0]], "unk_id": 0}),
        ("post_processor", {"type": "Unheard"}),
    ],
)
def test_a_part_that_may_give_other_ids_is_refused_by_name(module, part, value):
    found = rows_by_javascript(module, lambda content: content.update({part: value}), ["a"])
    assert found["name"] == "BackendError"
    kind = value and value["type"]
    assert f"{kind} may give other ids here than in Python".removeprefix("None") in found["message"]


def test_added_tokens_that_are_single_words_are_refused(module):
    found = rows_by_javascript(module, lambda value: value["added_tokens"][0].update(single_word=True), ["a"])
    assert found["name"] == "BackendError"


def test_no_room_beside_special_tokens(module):
    found = rows_by_javascript(module, lambda value: None, ["a"], length=3)
    assert (found["name"], found["message"].partition(": ")[2]) == (
        "ConfigurationError",
        "max_length 3 leaves no room beside 3 special tokens; train with more",
    )


def test_a_damaged_file_is_an_error_of_the_artifact(module):
    for key in ("added_tokens", "model"):
        found = rows_by_javascript(module, lambda value, key=key: value.pop(key), ["a"])
        assert found["name"] == "ArtifactError"
        assert found["message"].startswith("tokenizer.json: not a readable tokenizer (")
        assert "\n" not in found["message"]


def test_the_longer_text_is_cut_first(module):
    texts = [("a b c d e f g h", "one two"), ("one two", "a b c d e f g h")]
    rows = rows_by_javascript(module, lambda value: None, texts, length=8)
    assert [types.count(1) for _, types in rows] == [3, 4]
    assert all(len(ids) == 8 for ids, _ in rows)
    assert all(first <= second for _, types in rows for first, second in pairwise(types))
