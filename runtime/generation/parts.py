"""The graphs by which a backbone generates: one table of what each takes and gives.

Names of files, inputs and outputs are those of optimum, whose classes load a folded task's folder as it is.

    part               file                            takes besides the task               gives
    encoder            encoder_model.onnx              input_ids, attention_mask            last_hidden_state
    decoder            decoder_model.onnx              input_ids, encoder_attention_mask,   logits and the cache of
                                                       encoder_hidden_states                both attentions
    decoder_with_past  decoder_with_past_model.onnx    input_ids of one token,              logits and the cache of
                                                       encoder_attention_mask, both caches  its self-attention
    model              model.onnx                      input_ids, attention_mask,           logits and the cache
                                                       position_ids, the cache

The first three are an encoder-decoder's; the last is all of a decoder alone, whose cache is empty at first.
"""

from collections.abc import Iterator
from dataclasses import dataclass

from propetl.runtime.generation.info import GenerationInfo
from propetl.runtime.manifest import MODEL, Dimension, TensorSignature

ENCODER, DECODER, DECODER_WITH_PAST = "encoder", "decoder", "decoder_with_past"

BATCH, SEQUENCE, TARGET, PAST, PRESENT = "batch", "sequence", "target", "past", "present"
"""Rows; tokens of the encoder's text; tokens that come in now; tokens in the cache before, and after."""

HIDDEN_STATES, ENCODER_STATES, ENCODER_MASK = "last_hidden_state", "encoder_hidden_states", "encoder_attention_mask"
LOGITS = "logits"


@dataclass(frozen=True)
class Part:
    """One graph.

    Attributes:
        name: as in the manifest.
        file: its name in the folder of its form and task.
        inputs: what it takes besides what its form adds for the task.
        outputs: what it gives.
    """

    name: str
    file: str
    inputs: tuple[TensorSignature, ...]
    outputs: tuple[TensorSignature, ...]


def parts_of(info: GenerationInfo, hidden_size: int) -> dict[str, Part]:
    """The graphs of a backbone of width ``hidden_size``, in the order they run."""
    if info.kind == "decoder":
        return {MODEL: _decoder_alone(info)}
    mask = _ids(ENCODER_MASK, BATCH, SEQUENCE)
    states: tuple[Dimension, ...] = (BATCH, SEQUENCE, hidden_size)
    encoder = Part(
        ENCODER,
        "encoder_model.onnx",
        (_ids("input_ids", BATCH, SEQUENCE), _ids("attention_mask", BATCH, SEQUENCE)),
        (TensorSignature(HIDDEN_STATES, "float32", states),),
    )
    decoder = Part(
        DECODER,
        "decoder_model.onnx",
        (_ids("input_ids", BATCH, TARGET), mask, TensorSignature(ENCODER_STATES, "float32", states)),
        (_logits(info, TARGET), *_both_caches(info, "present", TARGET)),
    )
    with_past = Part(
        DECODER_WITH_PAST,
        "decoder_with_past_model.onnx",
        (_ids("input_ids", BATCH, 1), mask, *_both_caches(info, "past_key_values", PAST)),
        (_logits(info, 1), *_cache(info, "present.{}.decoder", PRESENT)),
    )
    return {part.name: part for part in (encoder, decoder, with_past)}


def _decoder_alone(info: GenerationInfo) -> Part:
    return Part(
        MODEL,
        "model.onnx",
        (
            _ids("input_ids", BATCH, TARGET),
            _ids("attention_mask", BATCH, PRESENT),
            _ids("position_ids", BATCH, TARGET),
            *_cache(info, "past_key_values.{}", PAST),
        ),
        (_logits(info, TARGET), *_cache(info, "present.{}", PRESENT)),
    )


def _both_caches(info: GenerationInfo, name: str, length: str) -> Iterator[TensorSignature]:
    """Layer by layer, the self-attention before the cross-attention: the order in which optimum feeds them."""
    own, of_encoder = _cache(info, name + ".{}.decoder", length), _cache(info, name + ".{}.encoder", SEQUENCE)
    for layer in range(info.layers):
        yield from own[2 * layer : 2 * layer + 2]
        yield from of_encoder[2 * layer : 2 * layer + 2]


def _cache(info: GenerationInfo, name: str, length: str) -> tuple[TensorSignature, ...]:
    """Keys and values, float32 ``[batch, heads, length, head size]``, layer by layer."""
    shape = (BATCH, info.heads, length, info.head_size)
    names = (f"{name.format(layer)}.{kind}" for layer in range(info.layers) for kind in ("key", "value"))
    return tuple(TensorSignature(each, "float32", shape) for each in names)


def _ids(name: str, *shape: Dimension) -> TensorSignature:
    return TensorSignature(name, "int64", shape)


def _logits(info: GenerationInfo, length: Dimension) -> TensorSignature:
    return TensorSignature(LOGITS, "float32", (BATCH, length, info.vocabulary))
