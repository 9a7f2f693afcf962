"""Text from a backbone with a language model head: its logits and loss while training, and generation."""

from collections.abc import Mapping
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional
from transformers import DynamicCache, EncoderDecoderCache, GenerationConfig

from propetl.bundle.text import TextInfo
from propetl.bundle.words import IGNORED
from propetl.heads import positions

_TOKENS = ("bos_token_id", "decoder_start_token_id", "eos_token_id")


def token_logits(network: Any, inputs: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
    """Logits at every place of ``labels``, each given those before it.

    Args:
        network: one of transformers' models with a language model head.
        inputs: ``input_ids`` and ``attention_mask``, int64 ``[batch, seq]``.
        labels: int64 ``[batch, target]``, :data:`IGNORED` behind the end; None for the first place alone.

    Returns:
        ``[batch, target, vocabulary]``, or ``[batch, 1, vocabulary]``.
    """
    if not network.config.is_encoder_decoder:
        return _continued(network, inputs, labels)
    if labels is None:
        started = torch.full_like(inputs["input_ids"][:, :1], network.config.decoder_start_token_id)
    else:
        started = network.prepare_decoder_input_ids_from_labels(labels)
    logits: Tensor = network(**inputs, decoder_input_ids=started, use_cache=False).logits
    return logits


def _continued(network: Any, inputs: Mapping[str, Tensor], labels: Tensor | None) -> Tensor:
    """The same of a decoder, which reads prompt and answer as one text."""
    prompt = _moved_right(inputs)
    ids, mask, kept = prompt["input_ids"], prompt["attention_mask"], 1
    if labels is not None:
        real = labels != IGNORED
        ids = torch.cat([ids, labels.masked_fill(~real, 0)], dim=1)
        mask, kept = torch.cat([mask, real.to(mask.dtype)], dim=1), labels.shape[1] + 1
    made: Tensor = network(
        input_ids=ids, attention_mask=mask, position_ids=positions(mask), use_cache=False, logits_to_keep=kept
    ).logits
    return made if labels is None else made[:, :-1]


def _moved_right(inputs: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Padding before the prompts, whose last tokens then stand side by side."""
    order = inputs["attention_mask"].argsort(dim=1, stable=True)
    return {name: tensor.gather(1, order) for name, tensor in inputs.items()}


def summed_token_loss(logits: Tensor, labels: Tensor, smoothing: float = 0.0) -> Tensor:
    """Cross-entropy summed over the places of ``labels`` ``[batch, target]`` that are not :data:`IGNORED`.

    ``smoothing`` is spread over all classes of ``logits`` ``[batch, target, classes]`` alike.
    """
    return functional.cross_entropy(
        logits.flatten(0, 1), labels.flatten(), ignore_index=IGNORED, label_smoothing=smoothing, reduction="sum"
    )


def target_count(labels: Tensor) -> int:
    """How many places of ``labels`` ``[batch, target]`` a loss is taken over."""
    return int((labels != IGNORED).sum())


def generated_ids(network: Any, text: TextInfo, inputs: Mapping[str, Tensor], **options: Any) -> Tensor:
    """Generates as ``text`` says.

    Args:
        network: as above.
        text: length, beams and length penalty.
        inputs: ``input_ids`` and ``attention_mask``, int64 ``[batch, seq]``.
        options: of :class:`transformers.GenerationConfig`; they win over ``text``.

    Returns:
        int64 ``[batch, longest]``: what was generated, with the end token and padding behind it.
    """
    chosen = {
        "max_new_tokens": text.max_target_length,
        "num_beams": text.num_beams,
        "length_penalty": text.length_penalty,
        "do_sample": False,
        **options,
    }
    if chosen["num_beams"] == 1:
        del chosen["length_penalty"]  # transformers warns of it where nothing is ranked
    wanted = GenerationConfig(**chosen)
    if not network.config.is_encoder_decoder:
        continued: Tensor = network.generate(**_moved_right(inputs), generation_config=wanted)
        return continued[:, inputs["input_ids"].shape[1] :]
    # The cache that transformers would make has as many layers as the encoder.
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    ids: Tensor = network.generate(**inputs, past_key_values=cache, generation_config=wanted)
    return ids[:, 1:]  # without the token that a decoder starts from


def only_tokens(config: GenerationConfig, pad_token_id: int) -> GenerationConfig:
    """``config`` without its habits (lengths, penalties, forced tokens): a task says what it wants by itself."""
    return GenerationConfig(**{name: getattr(config, name) for name in _TOKENS}, pad_token_id=pad_token_id)
