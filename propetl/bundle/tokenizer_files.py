"""The files of a tokenizer, which other tools read at their defaults: they say the length that texts are cut to."""

from collections.abc import Mapping

from propetl.files import json_bytes
from propetl.strict_json import parse_json

JSON_FILE = "tokenizer.json"
CONFIG_FILE = "tokenizer_config.json"


def with_max_length(files: Mapping[str, bytes], max_length: int) -> dict[str, bytes]:
    """``files`` whose readers truncate to ``max_length`` tokens, the longest text first, at its end.

    ``tokenizer.json`` truncates for the tokenizers library, ``model_max_length`` for transformers and transformers.js.
    """
    truncation = {"direction": "Right", "max_length": max_length, "strategy": "LongestFirst", "stride": 0}
    said = {JSON_FILE: {"truncation": truncation}, CONFIG_FILE: {"model_max_length": max_length}}
    changed = {
        name: json_bytes(parse_json(content) | said[name]) for name, content in files.items() if name in said
    }
    return {**files, **changed}
