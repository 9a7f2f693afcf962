"""A word-level tokenizer of a few words, and what it makes of rows."""

import numpy as np

WORDS = ["a", "b", "c", "d", "e", "f", "g", "h", "good", "bad", "film", "rain", "sun", "wind"]
WORDS += ["north", "south", "one", "two", "three", "four"]
VOCABULARY = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", *WORDS]
INPUTS = ("input_ids", "attention_mask", "token_type_ids")


def tokenizer_json():
    """A word-level tokenizer with BERT's special tokens."""
    special = [
        {
            "id": i,
            "content": t,
            "single_word": False,
            "lstrip": False,
            "rstrip": False,
            "normalized": False,
            "special": True,
        }
        for i, t in enumerate(VOCABULARY[:4])
    ]
    piece = [{"SpecialToken": {"id": "[CLS]", "type_id": 0}}, {"Sequence": {"id": "A", "type_id": 0}}]
    single = [*piece, {"SpecialToken": {"id": "[SEP]", "type_id": 0}}]
    second = [{"Sequence": {"id": "B", "type_id": 1}}, {"SpecialToken": {"id": "[SEP]", "type_id": 1}}]
    tokens = {t: {"id": t, "ids": [VOCABULARY.index(t)], "tokens": [t]} for t in ("[CLS]", "[SEP]")}
    return {
        "version": "1.0",
        "truncation": None,
        "padding": None,
        "added_tokens": special,
        "normalizer": None,
        "pre_tokenizer": {"type": "Whitespace"},
        "post_processor": {
            "type": "TemplateProcessing",
            "single": single,
            "pair": [*single, *second],
            "special_tokens": tokens,
        },
        "decoder": None,
        "model": {
            "type": "WordLevel",
            "vocab": {t: i for i, t in enumerate(VOCABULARY)},
            "unk_token": "[UNK]",
        },
    }


def token_ids(rows):
    """Feeds int64 ``[rows, longest]`` of rows that need no truncation; made without the tokeniser."""
    encoded = []
    for row in rows:
        parts = (row,) if isinstance(row, str) else row
        ids, types = [VOCABULARY.index("[CLS]")], [0]
        for kind, part in enumerate(parts):
            new = [VOCABULARY.index(w) if w in VOCABULARY else 1 for w in part.split()] + [VOCABULARY.index("[SEP]")]
            ids, types = ids + new, types + [kind] * len(new)
        encoded.append((ids, types))
    longest = max(len(ids) for ids, _ in encoded)
    filled = [
        (
            [*i, *[0] * (longest - len(i))],
            [1] * len(i) + [0] * (longest - len(i)),
            [*t, *[0] * (longest - len(t))],
        )
        for i, t in encoded
    ]
    return {name: np.array([row[k] for row in filled], dtype=np.int64) for k, name in enumerate(INPUTS)}
