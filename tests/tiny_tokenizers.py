"""Small tokenizers of the kinds that backbones have, and strings to try them with."""

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

from tokenizers import AddedToken, Tokenizer, decoders, models, normalizers, pre_tokenizers, processors, trainers
from transformers import PreTrainedTokenizerFast

TEXTS = [
    "the cat sat on the mat and the dog ran home", "it rains in rome and the sun shines in paris",
    "a good film with a bad end", "one two three four five six seven eight nine ten",
    "yes no maybe true false positive negative neutral", "Question answer sentence text label value",
] * 20  # fmt: skip
_BERT = {"pad": "[PAD]", "unk": "[UNK]", "cls": "[CLS]", "sep": "[SEP]", "mask": "[MASK]"}
_ROBERTA = {"pad": "<pad>", "unk": "<unk>", "cls": "<s>", "sep": "</s>", "bos": "<s>", "eos": "</s>", "mask": "<mask>"}
_GPT2 = dict.fromkeys(("bos", "eos", "unk"), "<|endoftext|>")
NAMES = {
    kind: {f"{name}_token": token for name, token in names.items()}
    for kind, names in {
        "wordpiece": _BERT,
        "byte-bpe": _ROBERTA,
        "unigram": {"pad": "<pad>", "eos": "</s>", "unk": "<unk>"},
        "gpt2": _GPT2,
        "llama": {"unk": "<unk>", "bos": "<s>", "eos": "</s>"},
    }.items()
}


def _special(kind: str) -> list[str]:
    first = {"wordpiece": "[PAD]", "byte-bpe": "<s>", "unigram": "<pad>", "gpt2": "<|endoftext|>", "llama": "<unk>"}
    return list(dict.fromkeys([first[kind], *NAMES[kind].values()]))


def _wordpiece() -> Tokenizer:
    tokenizer = Tokenizer(models.WordPiece(unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    trainer = trainers.WordPieceTrainer(
        vocab_size=300, special_tokens=_special("wordpiece"), show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    ends = [(name, tokenizer.token_to_id(name)) for name in ("[CLS]", "[SEP]")]
    tokenizer.post_processor = processors.TemplateProcessing(
        single="[CLS] $A [SEP]", pair="[CLS] $A [SEP] $B:1 [SEP]:1", special_tokens=ends
    )
    return tokenizer


def _byte_bpe(kind: str) -> Tokenizer:
    tokenizer = Tokenizer(models.BPE())
    tokenizer.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    tokenizer.decoder = decoders.ByteLevel()
    alphabet = pre_tokenizers.ByteLevel.alphabet()
    trainer = trainers.BpeTrainer(
        vocab_size=400, special_tokens=_special(kind), initial_alphabet=alphabet, show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    if kind == "byte-bpe":
        end, start = tokenizer.token_to_id("</s>"), tokenizer.token_to_id("<s>")
        tokenizer.post_processor = processors.RobertaProcessing(("</s>", end), ("<s>", start))
        tokenizer.add_special_tokens([AddedToken("<mask>", lstrip=True, special=True)])
    return tokenizer


def _unigram() -> Tokenizer:
    tokenizer = Tokenizer(models.Unigram())
    tokenizer.normalizer = normalizers.Replace(" {2,}", " ")
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace()
    tokenizer.decoder = decoders.Metaspace()
    trainer = trainers.UnigramTrainer(
        vocab_size=120, special_tokens=_special("unigram"), unk_token="<unk>", show_progress=False
    )
    tokenizer.train_from_iterator(TEXTS, trainer)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="$A </s>", pair="$A </s> $B </s>", special_tokens=[("</s>", tokenizer.token_to_id("</s>"))]
    )
    return tokenizer


def _llama() -> Tokenizer:
    """Byte fallback, and no blanks at which a text is split."""
    tokenizer = Tokenizer(models.BPE(byte_fallback=True, fuse_unk=True, unk_token="<unk>"))
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=True)
    steps = [decoders.Replace("▁", " "), decoders.ByteFallback(), decoders.Fuse(), decoders.Strip(" ", 1, 0)]
    tokenizer.decoder = decoders.Sequence(steps)
    special = [*_special("llama"), *(f"<0x{byte:02X}>" for byte in range(256))]
    tokenizer.train_from_iterator(
        TEXTS, trainers.BpeTrainer(vocab_size=400, special_tokens=special, show_progress=False)
    )
    tokenizer.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme="first", split=False)
    tokenizer.post_processor = processors.TemplateProcessing(
        single="<s> $A", pair="<s> $A <s> $B", special_tokens=[("<s>", tokenizer.token_to_id("<s>"))]
    )
    return tokenizer


KINDS: dict[str, Callable[[], Tokenizer]] = {
    "wordpiece": _wordpiece,
    "byte-bpe": lambda: _byte_bpe("byte-bpe"),
    "unigram": _unigram,
    "gpt2": lambda: _byte_bpe("gpt2"),
    "llama": _llama,
}


def save_tokenizer(kind: str, folder: Path, backend: Tokenizer, **settings: Any) -> Path:
    """Saves ``backend`` to ``folder`` as a repository would hold it, with ``settings`` of its configuration."""
    PreTrainedTokenizerFast(tokenizer_object=backend, **(NAMES[kind] | settings)).save_pretrained(folder)
    return folder


_PIECES: tuple[Callable[[random.Random], str], ...] = (
    lambda draw: draw.choice(" ".join(TEXTS[:6]).split()),
    lambda draw: draw.choice(TEXTS),
    lambda draw: "".join(chr(draw.randint(1, 0x2FF)) for _ in range(draw.randint(1, 5))),
    lambda draw: chr(draw.choice([0x1F642, 0x4E2D, 0x0301, 0x200B, 0x202E, 0xFEFF, 0x10FFFF, 0xFB01, 0xAC00])),
    lambda draw: draw.choice(["\x00", "\x01", "\x7f", "\x85", "\t", "\n", "\r\n", "   "]),
    lambda draw: draw.choice(sorted({token for names in NAMES.values() for token in names.values()} | {"<0x41>"})),
    lambda draw: draw.choice("abcxyz") * draw.randint(1, 150),
)


def strings(count: int, seed: int = 0) -> list[str]:
    """Texts of all kinds, none blank: words, Unicode, control characters, special tokens, long ones."""
    draw = random.Random(seed)
    made: list[str] = []
    while len(made) < count:
        parts = [draw.choice(_PIECES)(draw) for _ in range(draw.randint(1, 12))]
        text = draw.choice(["", " "]).join(parts)
        if text.strip():
            made.append(text)
    return made
