"""The parts of a backbone that generates as functions of a task's tensors, in the form that the tracer needs."""

from collections.abc import Callable, Iterator, Mapping
from typing import Any

from torch import Tensor
from transformers import DynamicCache, EncoderDecoderCache
from transformers.cache_utils import DynamicLayer

from propetl.export.program import Program
from propetl.model import ProPETLModel
from propetl.runtime.generation.parts import (
    DECODER,
    DECODER_WITH_PAST,
    ENCODER,
    ENCODER_MASK,
    ENCODER_STATES,
)
from propetl.runtime.manifest import MODEL

Tensors = Mapping[str, Tensor]


class PartProgram(Program):
    """``outputs = program(inputs, task)`` for one part; outputs are those of ``propetl.runtime.generation.parts``.

    With ``rows``, every row has the tensors of its own task, with a leading axis of rows.
    """

    def __init__(self, model: ProPETLModel, part: str, rows: bool) -> None:
        """``part`` is a key of :data:`PARTS`."""
        super().__init__(model)
        self.part = part
        self.rows = rows

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> tuple[Tensor, ...]:  # type: ignore[override]
        """The part's outputs, in their order."""
        with self.model.running(self._effective(task, self.rows)):
            return PARTS[self.part](self.model.network, inputs)


def _encoder(network: Any, inputs: Tensors) -> tuple[Tensor, ...]:
    return (network.get_encoder()(**inputs).last_hidden_state,)


def _decoder(network: Any, inputs: Tensors) -> tuple[Tensor, ...]:
    """The first step, which also computes keys and values over the encoder's states."""
    cache = EncoderDecoderCache(DynamicCache(), DynamicCache())
    logits = _decoded(network, inputs, inputs[ENCODER_STATES], cache)
    both = zip(_layers(cache.self_attention_cache), _layers(cache.cross_attention_cache), strict=True)
    return (logits, *(tensor for own, of_encoder in both for tensor in (*own, *of_encoder)))


def _decoder_with_past(network: Any, inputs: Tensors) -> tuple[Tensor, ...]:
    """A further step. Of the encoder's states only their sizes are read, as their keys and values are there."""
    own, of_encoder = (list(_past(inputs, f"past_key_values.{{}}.{kind}")) for kind in ("decoder", "encoder"))
    cache = EncoderDecoderCache(DynamicCache(own), DynamicCache(of_encoder))
    stand_in = of_encoder[0][0][:, 0]  # [batch, sequence, head size]
    logits = _decoded(network, inputs, stand_in, cache)
    return (logits, *(tensor for layer in _layers(cache.self_attention_cache) for tensor in layer))


def _decoder_alone(network: Any, inputs: Tensors) -> tuple[Tensor, ...]:
    """The prompt with an empty cache, or a further step."""
    cache = DynamicCache(list(_past(inputs, "past_key_values.{}")))
    names = ("input_ids", "attention_mask", "position_ids")
    logits = network(**{name: inputs[name] for name in names}, past_key_values=cache, use_cache=True).logits
    return (logits, *(tensor for layer in _layers(cache) for tensor in layer))


def _decoded(network: Any, inputs: Tensors, states: Tensor, cache: EncoderDecoderCache) -> Tensor:
    """Logits ``[batch, target, vocabulary]``; ``cache`` takes up the new keys and values."""
    logits: Tensor = network(
        encoder_outputs=(states,),
        attention_mask=inputs[ENCODER_MASK],
        decoder_input_ids=inputs["input_ids"],
        past_key_values=cache,
        use_cache=True,
    ).logits
    return logits


def _past(inputs: Tensors, names: str) -> Iterator[tuple[Tensor, Tensor]]:
    layer = 0
    while (name := names.format(layer)) + ".key" in inputs:
        yield inputs[name + ".key"], inputs[name + ".value"]
        layer += 1


def _layers(cache: DynamicCache) -> Iterator[tuple[Tensor, Tensor]]:
    for layer in cache.layers:
        assert isinstance(layer, DynamicLayer) and layer.keys is not None and layer.values is not None
        yield layer.keys, layer.values


PARTS: dict[str, Callable[[Any, Tensors], tuple[Tensor, ...]]] = {
    ENCODER: _encoder,
    DECODER: _decoder,
    DECODER_WITH_PAST: _decoder_with_past,
    MODEL: _decoder_alone,
}
