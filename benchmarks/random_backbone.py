"""Backbones of any size with random weights: they take as long as pretrained ones, and need no network."""

from dataclasses import dataclass
from pathlib import Path

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

_SPECIAL = ("<s>", "<pad>", "</s>", "<unk>", "<mask>")
_LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
_PADDING = 1


@dataclass(frozen=True)
class Size:
    """Sizes of a backbone."""

    family: str
    hidden: int
    layers: int
    heads: int
    vocabulary: int = 30522
    positions: int = 514


MINILM = Size("bert", 384, 6, 12)
ROBERTA_BASE = Size("roberta", 768, 12, 12, vocabulary=50265)


def write_random_backbone(path: Path, size: Size) -> Path:
    """Saves a random backbone with a tokenizer to ``path``, and returns it."""
    config = AutoConfig.for_model(
        size.family,
        vocab_size=size.vocabulary,
        hidden_size=size.hidden,
        num_hidden_layers=size.layers,
        num_attention_heads=size.heads,
        intermediate_size=4 * size.hidden,
        max_position_embeddings=size.positions,
        pad_token_id=_PADDING,
        type_vocab_size=1 if size.family == "roberta" else 2,
    )
    torch.manual_seed(0)
    AutoModel.from_config(config).save_pretrained(path)
    _tokenizer().save_pretrained(path)
    return path


def _tokenizer() -> PreTrainedTokenizerFast:
    pieces = (*_SPECIAL, *_LETTERS, *(f"##{letter}" for letter in _LETTERS))
    vocabulary = {piece: index for index, piece in enumerate(pieces)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="<unk>"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A </s>",
        pair="<s> $A </s> $B:1 </s>:1",
        special_tokens=[("<s>", vocabulary["<s>"]), ("</s>", vocabulary["</s>"])],
    )
    names = {
        "unk_token": "<unk>",
        "pad_token": "<pad>",
        "cls_token": "<s>",
        "sep_token": "</s>",
        "mask_token": "<mask>",
    }
    return PreTrainedTokenizerFast(tokenizer_object=tokenizer, **names)
