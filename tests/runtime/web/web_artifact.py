"""A tiny artifact whose tokenizer the module knows."""

from pathlib import Path
from typing import Any

from propetl.files import json_bytes
from tests.runtime.tiny_artifact import Tiny, write_tiny_artifact
from tests.runtime.tiny_tokenizer import VOCABULARY, tokenizer_json


def bert_tokenizer_json() -> dict[str, Any]:
    """The tiny tokenizer as WordPiece, which the module knows."""
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    model = {"type": "WordPiece", "unk_token": "[UNK]", "continuing_subword_prefix": "##", "vocab": vocabulary}
    own = {"pre_tokenizer": {"type": "BertPreTokenizer"}, "model": model | {"max_input_chars_per_word": 100}}
    return tokenizer_json() | own


def write_web_artifact(path: Path, **options: Any) -> Tiny:
    """A tiny artifact with stages, which a page can run."""
    tiny = write_tiny_artifact(path, staged=True, **options)
    tiny.rewrite("tokenizer/tokenizer.json", json_bytes(bert_tokenizer_json()))
    return tiny
