"""A backbone's tokenizer as the files that everybody reads: training, bundles, artifacts, other tools.

Repositories say a lot beside the vocabulary: on which side to pad, what to truncate to, which tokens to add. None of
it may change what is learned, so it is settled once, when the backbone is loaded. The backend that transformers makes
of a repository at its defaults is saved as it is, padding at the right, truncating nothing; the configuration beside
it says the same, and names the class that reads ``tokenizer.json`` and changes nothing.
"""

import tempfile
from pathlib import Path
from typing import Any

from torch import nn
from transformers import PreTrainedConfig, PreTrainedModel, PreTrainedTokenizerBase, PreTrainedTokenizerFast

from propetl.bundle.tokenizer_files import CONFIG_FILE
from propetl.families import Family
from propetl.files import json_bytes
from propetl.strict_json import any_length, parse_json

_SETTLED = {
    "tokenizer_class": "PreTrainedTokenizerFast",  # a name that transformers 4, which optimum stands on, knows as well
    "padding_side": "right",
    "truncation_side": "right",
    "clean_up_tokenization_spaces": False,
}
_DROPPED = (
    # The post-processor in tokenizer.json adds them; transformers would make another one.
    *("add_bos_token", "add_eos_token"),
    # Of padding and truncation, which tokenizer.json and the keys above say.
    *("max_length", "model_max_length", "stride", "truncation_strategy", "pad_to_multiple_of", "pad_token_type_id"),
    # Where it came from, and code of it.
    *("auto_map", "name_or_path", "tokenizer_file", "split_special_tokens"),
)


def checked_tokenizer(tokenizer: PreTrainedTokenizerBase, embeddings: nn.Module) -> PreTrainedTokenizerFast:
    """Refuses a tokenizer that a device could not run, or that gives ids which the backbone has no embedding of.

    Raises:
        ValueError: saying what is wrong.
    """
    # Without its files, transformers makes one that knows nothing but the special tokens.
    if len(tokenizer) <= len(tokenizer.all_special_ids):
        raise ValueError("it has no tokenizer (tokenizer.json is missing)")
    if not isinstance(tokenizer, PreTrainedTokenizerFast):
        raise ValueError("it has no fast tokenizer (tokenizer.json), which is what a device runs")
    if tokenizer.split_special_tokens:
        raise ValueError(
            "its tokenizer_config.json says split_special_tokens, which tokenizer.json cannot say to a device; "
            "set it to false"
        )
    rows = getattr(embeddings, "num_embeddings", None)
    token, highest = max(tokenizer.get_vocab().items(), key=lambda item: item[1])
    if rows is not None and highest >= rows:
        raise ValueError(
            f"its tokenizer goes up to id {highest} ({token!r}), but it has {rows} embeddings (ids up to {rows - 1}); "
            "take the tokenizer it was trained with, or save the backbone with resized embeddings"
        )
    return tokenizer


def pad_token(tokenizer: PreTrainedTokenizerFast, config: PreTrainedConfig, family: Family) -> int:
    """The token that fills short rows. It is never attended to, so any will do where none is named."""
    own = (tokenizer.pad_token_id, tokenizer.eos_token_id)
    named = own if family.kind == "decoder" else (config.pad_token_id, *own)
    known = (token for token in named if token is not None and tokenizer.convert_ids_to_tokens(token) is not None)
    return next(known, 0)


def settle_end(tokenizer: PreTrainedTokenizerFast, model: PreTrainedModel) -> int | None:
    """The token that answers in text end with: one at which ``model`` stops, which learns to stop if it did at none."""
    end: int | None = tokenizer.eos_token_id
    generation = getattr(model, "generation_config", None)
    if generation is None:
        return end
    if generation.eos_token_id is None:
        generation.eos_token_id = end
    ends = generation.eos_token_id if isinstance(generation.eos_token_id, list) else [generation.eos_token_id]
    return end if end in ends else next(iter(ends), None)


def tokenizer_files(
    tokenizer: PreTrainedTokenizerFast, pad_token_id: int, inputs: tuple[str, ...]
) -> dict[str, bytes]:
    """The files by name.

    Args:
        tokenizer: as transformers loads it; its backend is changed.
        pad_token_id: what fills short rows.
        inputs: token inputs that the backbone takes.
    """
    backend = tokenizer.backend_tokenizer
    pad = backend.id_to_token(pad_token_id)
    backend.no_truncation()
    backend.no_padding()
    if pad is not None:
        backend.enable_padding(direction="right", pad_id=pad_token_id, pad_type_id=0, pad_token=pad)
    with tempfile.TemporaryDirectory() as folder:
        tokenizer.save_pretrained(folder)
        files = {path.name: path.read_bytes() for path in sorted(Path(folder).iterdir())}
    # Where there is no limit, transformers writes a model_max_length of 31 digits.
    config = parse_json(files[CONFIG_FILE], whole=any_length)
    return files | {CONFIG_FILE: json_bytes(_settled(config, pad, inputs))}


def _settled(config: dict[str, Any], pad: str | None, inputs: tuple[str, ...]) -> dict[str, Any]:
    kept = {key: value for key, value in config.items() if key not in _DROPPED}
    if isinstance(extra := kept.get("extra_special_tokens"), list):
        kept["additional_special_tokens"] = extra  # as transformers 4 knows it
        del kept["extra_special_tokens"]
    return kept | _SETTLED | {"model_input_names": list(inputs)} | ({} if pad is None else {"pad_token": pad})
