"""Tiny random backbones of every family, with a real word-piece tokenizer, saved as transformers saves them."""

from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers, processors
from transformers import AutoConfig, AutoModel, PreTrainedTokenizerFast

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
WORDS = ("is", "was", "not", "no", "good", "bad", "man", "dog")
VOCABULARY = (*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS)


def tiny_backbone(
    folder: Path, family: str = "bert", *, hidden: int = 32, layers: int = 2, heads: int = 4, seed: int = 0
) -> Path:
    """Saves a random backbone of ``family`` to ``folder`` and returns the folder."""
    sizes: dict[str, Any] = {
        "vocab_size": len(VOCABULARY),
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 80,
        "pad_token_id": 0,
    }
    if family == "distilbert":
        sizes["hidden_dim"] = sizes.pop("intermediate_size")
    if "roberta" in family:
        sizes["type_vocab_size"] = 1  # as the pretrained ones have it
    if family == "electra":
        sizes["embedding_size"] = hidden // 2
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = AutoModel.from_config(AutoConfig.for_model(family, **sizes))
        _spread(model)
    model.save_pretrained(folder)
    _tokenizer().save_pretrained(folder)
    return folder


def _spread(model: torch.nn.Module) -> None:
    """Larger weights than a fresh model's 0.02, so that masks and masks' errors show in the logits."""
    with torch.no_grad():
        for name, parameter in model.named_parameters():
            if parameter.dim() > 1:
                parameter.normal_(std=0.2)
            elif name.endswith("bias"):
                parameter.normal_(std=0.1)


def _tokenizer() -> PreTrainedTokenizerFast:
    vocabulary = {token: index for index, token in enumerate(VOCABULARY)}
    tokenizer = Tokenizer(models.WordPiece(vocabulary, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]",
        pair="[CLS] $A [SEP] $B:1 [SEP]:1",
        special_tokens=[("[CLS]", vocabulary["[CLS]"]), ("[SEP]", vocabulary["[SEP]"])],
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        unk_token="[UNK]",
        pad_token="[PAD]",
        cls_token="[CLS]",
        sep_token="[SEP]",
        mask_token="[MASK]",
        model_max_length=64,
    )
