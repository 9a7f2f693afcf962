"""Tiny random models that generate, and random prompts for them."""

from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from transformers import GPT2Config, GPT2LMHeadModel, PreTrainedModel, T5Config, T5ForConditionalGeneration

VOCABULARY = 23
PAD, END, START = 0, 1, 0

# Tiny models gain nothing from threads, and wait for each other's on a busy machine.
torch.set_num_threads(1)

Ids = NDArray[np.int64]


def tiny_t5(seed: int = 5, **changes: Any) -> T5ForConditionalGeneration:
    """An encoder-decoder whose sequences end at many lengths."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "d_model": 24,
        "d_kv": 6,
        "d_ff": 40,
        "num_layers": 2,
        "num_decoder_layers": 2,  # transformers (5.23) makes the cache as deep as the encoder
        "num_heads": 4,
        "relative_attention_num_buckets": 8,
        "relative_attention_max_distance": 20,
        "decoder_start_token_id": START,
        "pad_token_id": PAD,
        "eos_token_id": END,
        "dropout_rate": 0.0,
    }
    return _spread(T5ForConditionalGeneration, T5Config(**sizes | changes), seed)


def tiny_gpt2(seed: int = 4, **changes: Any) -> GPT2LMHeadModel:
    """A decoder without encoder."""
    sizes: dict[str, Any] = {
        "vocab_size": VOCABULARY,
        "n_embd": 24,
        "n_layer": 2,
        "n_head": 4,
        "n_positions": 64,
        "pad_token_id": PAD,
        "bos_token_id": END,
        "eos_token_id": END,
        "resid_pdrop": 0.0,
        "embd_pdrop": 0.0,
        "attn_pdrop": 0.0,
    }
    return _spread(GPT2LMHeadModel, GPT2Config(**sizes | changes), seed)


def random_prompts(random: np.random.Generator, rows: int, length: int, side: str) -> tuple[Ids, Ids]:
    """Token ids and attention mask ``[rows, length]``; short rows are padded on ``side``."""
    lengths = random.integers(1, length + 1, size=(rows, 1))
    lengths[0] = length
    places = np.arange(length)
    mask = (places < lengths if side == "right" else places >= length - lengths).astype(np.int64)
    ids = random.integers(2, VOCABULARY, size=(rows, length)) * mask
    return ids, mask


def until_end(tokens: list[int], ends: tuple[int, ...] = (END,)) -> list[int]:
    """Tokens up to the first end, which is included."""
    for place, token in enumerate(tokens):
        if token in ends:
            return tokens[: place + 1]
    return tokens


def _spread(kind: type[Any], config: Any, seed: int) -> Any:
    """Weights drawn wide enough that what comes out depends on what went in, and that it ends at many lengths."""
    with torch.random.fork_rng():
        model: PreTrainedModel = kind(config)
        torch.manual_seed(seed)
        with torch.no_grad():
            for parameter in model.parameters():
                if parameter.dim() > 1:
                    parameter.normal_(std=0.4)
            model.get_output_embeddings().weight[END] *= 2.5
    return model.eval()
