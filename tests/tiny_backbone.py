"""Tiny random backbones of every family, with real tokenizers, saved as transformers saves them."""

import tempfile
from pathlib import Path
from typing import Any

import torch
from tokenizers import Tokenizer, decoders, models, normalizers, pre_tokenizers, processors
from transformers import (
    AutoConfig,
    AutoModel,
    AutoModelForCausalLM,
    AutoModelForSeq2SeqLM,
    AutoTokenizer,
    PreTrainedTokenizerFast,
)

SPECIAL = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]")
LETTERS = tuple("abcdefghijklmnopqrstuvwxyz0123456789.,!?'-")
WORDS = ("is", "was", "not", "no", "good", "bad", "man", "dog")
TEXT_SPECIAL = ("<pad>", "</s>", "<unk>", "<s>", "<mask>")
VOCABULARY = (*SPECIAL, *LETTERS, *(f"##{letter}" for letter in LETTERS), *WORDS)


TEXT_VOCABULARY = (*TEXT_SPECIAL, "▁", *LETTERS, *(f"▁{word}" for word in WORDS))


def tiny_backbone(
    folder: Path,
    family: str = "bert",
    *,
    hidden: int = 32,
    layers: int = 2,
    heads: int = 4,
    seed: int = 0,
    own_head: bool = False,
    **more: Any,
) -> Path:
    """Saves a random backbone of ``family`` to ``folder`` and returns the folder.

    ``own_head`` gives a language model a head that is not its embedding (always so for mT5); ``more`` goes into the
    configuration.
    """
    generates = family in TEXT_SIZES
    sizes = TEXT_SIZES[family](hidden, layers, heads) if generates else _encoder_sizes(family, hidden, layers, heads)
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        vocabulary = TEXT_VOCABULARY if generates else VOCABULARY
        config = AutoConfig.for_model(family, vocab_size=len(vocabulary), pad_token_id=0, **(sizes | more))
        model = _class_of(family).from_config(config)
        if own_head or family == "mt5":
            model.lm_head.weight = torch.nn.Parameter(model.lm_head.weight.detach().clone())
        _spread(model)
    model.save_pretrained(folder)
    (_text_tokenizer() if generates else _tokenizer()).save_pretrained(folder)
    return folder


def transformers_tokenizer(backbone: Any) -> PreTrainedTokenizerFast:
    """The tokenizer of a loaded backbone as transformers reads it from its files."""
    with tempfile.TemporaryDirectory() as folder:
        for name, content in backbone.tokenizer_files.items():
            Path(folder, name).write_bytes(content)
        tokenizer = AutoTokenizer.from_pretrained(folder)
    assert isinstance(tokenizer, PreTrainedTokenizerFast)
    return tokenizer


def _class_of(family: str) -> Any:
    if family not in TEXT_SIZES:
        return AutoModel
    return AutoModelForCausalLM if family in _DECODERS else AutoModelForSeq2SeqLM


def _encoder_sizes(family: str, hidden: int, layers: int, heads: int) -> dict[str, Any]:
    sizes: dict[str, Any] = {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 160,
    }
    if family == "distilbert":
        sizes["hidden_dim"] = sizes.pop("intermediate_size")
    if "roberta" in family:
        sizes["type_vocab_size"] = 1  # as the pretrained ones have it
    if family == "electra":
        sizes["embedding_size"] = hidden // 2
    return sizes


def _t5_sizes(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """Stacks of different depths, and heads that are wider than the hidden states together, as in T5-3B."""
    return {
        "d_model": hidden,
        "num_layers": layers,
        "num_decoder_layers": layers + 1,
        "num_heads": heads,
        "d_kv": 12,
        "d_ff": 2 * hidden,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 12,
        "decoder_start_token_id": 0,
        "eos_token_id": 1,
    }


def _mt5_sizes(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return _t5_sizes(hidden, layers, heads) | {"feed_forward_proj": "gated-gelu"}


def _bart_sizes(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    return {
        "d_model": hidden,
        "encoder_layers": layers,
        "decoder_layers": layers + 1,
        "encoder_attention_heads": heads,
        "decoder_attention_heads": heads // 2,
        "encoder_ffn_dim": 2 * hidden,
        "decoder_ffn_dim": 2 * hidden,
        "max_position_embeddings": 160,
        "decoder_start_token_id": 1,
        "bos_token_id": 3,
        "eos_token_id": 1,
        "forced_eos_token_id": None,
    }


def _gpt2_sizes(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    ends = {"bos_token_id": 1, "eos_token_id": 1}
    return {"n_embd": hidden, "n_layer": layers, "n_head": heads, "n_positions": 300, **ends}


def _llama_sizes(hidden: int, layers: int, heads: int) -> dict[str, Any]:
    """Two heads of queries share one of keys and values."""
    return {
        "hidden_size": hidden,
        "num_hidden_layers": layers,
        "num_attention_heads": heads,
        "num_key_value_heads": heads // 2,
        "intermediate_size": 2 * hidden,
        "max_position_embeddings": 300,
        "bos_token_id": 3,
        "eos_token_id": 1,
    }


TEXT_SIZES = {
    "t5": _t5_sizes,
    "mt5": _mt5_sizes,
    "bart": _bart_sizes,
    "gpt2": _gpt2_sizes,
    "llama": _llama_sizes,
    "qwen2": _llama_sizes,
}
_DECODERS = ("gpt2", "llama", "qwen2")


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


def _text_tokenizer() -> PreTrainedTokenizerFast:
    """Letters and a few words, an end token behind every text, as T5's; decoding gives the words back."""
    scores = [(piece, -1.0 if piece.startswith("▁") else -2.0) for piece in TEXT_VOCABULARY]
    tokenizer = Tokenizer(models.Unigram(scores, unk_id=TEXT_VOCABULARY.index("<unk>")))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", TEXT_VOCABULARY.index("</s>"))]
    )
    return PreTrainedTokenizerFast(
        tokenizer_object=tokenizer,
        pad_token="<pad>",
        eos_token="</s>",
        unk_token="<unk>",
        bos_token="<s>",
        mask_token="<mask>",
        model_max_length=64,
    )
