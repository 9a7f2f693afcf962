"""The tensors of a method on one backbone: which there are, and their shapes."""

from dataclasses import dataclass
from functools import cached_property
from itertools import accumulate
from math import prod

from propetl.bits import packed_length
from propetl.errors import ConfigurationError
from propetl.prototypes.method import Initial, PrototypeTensor, Widths
from propetl.prototypes.spec import PrototypeConfig


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a prototype, at one slot.

    Attributes:
        name: as in files and graphs, such as ``down.weight``, or ``decoder.down.weight`` of the decoder's prototype.
        shape: without the slot axis.
        slots: at how many slots it runs: all of its prototype's, or one in each layer.
        masked: whether masks apply to it; biases are shared as they are.
        initial: how it starts.
        prototype: what the names of its prototype's tensors start with.
        once_a_layer: whether it runs at the last slot of each layer alone.
    """

    name: str
    shape: tuple[int, ...]
    slots: int
    masked: bool
    initial: Initial
    prototype: str
    once_a_layer: bool

    @cached_property  # as are a layout's tensors: every pack that is read is checked against them
    def size(self) -> int:
        """Weights in the tensor."""
        return prod(self.shape)

    @cached_property
    def mask_bytes(self) -> int:
        """Bytes of one packed mask over the tensor."""
        return packed_length(self.size)


@dataclass(frozen=True)
class TaskLayout:
    """Every tensor that belongs to a bundle of one configuration on one backbone.

    Attributes:
        config: the method.
        hidden_size: width of the backbone, ``h``.
        layers: layers of the backbone; of an encoder-decoder, those of the encoder.
        parts: tensors of one prototype at one slot, in a fixed order.
        decoder_layers: layers of an encoder-decoder's decoder; 0 where there is one stack.
    """

    config: PrototypeConfig
    hidden_size: int
    layers: int
    parts: tuple[PrototypeTensor, ...]
    decoder_layers: int = 0

    def __post_init__(self) -> None:
        if self.config.scope == "stack" and not self.decoder_layers:
            raise ConfigurationError(
                "scope: stack gives encoder and decoder a prototype each; this backbone has one stack of layers: "
                "leave scope out"
            )

    @property
    def stacks(self) -> tuple[tuple[int, tuple[str, ...]], ...]:
        """(layers, names of a layer's slots) of each stack, the encoder first. A decoder behind it attends twice."""
        decoder = ((self.decoder_layers, self.config.places(attentions=2)),) if self.decoder_layers else ()
        return ((self.layers, self.config.places()), *decoder)

    @property
    def slots(self) -> int:
        """Places where the prototype runs, counted stack by stack, layer by layer, place by place."""
        return sum(layers * len(places) for layers, places in self.stacks)

    def tensors_at(self, slot: int) -> dict[str, int]:
        """Names of the tensors that run at ``slot``, and at which of its own slots each does."""
        prototype, place = self.place(slot)
        ends = self._layer_ends(prototype)
        return {
            tensor.name: ends.index(place) if tensor.once_a_layer else place
            for tensor in self.tensors
            if tensor.prototype == prototype and (not tensor.once_a_layer or place in ends)
        }

    def _tensor(self, prototype: str, slots: int, part: PrototypeTensor) -> TensorSpec:
        own = len(self._layer_ends(prototype)) if part.once_a_layer else slots
        name = prototype + part.name
        return TensorSpec(name, part.shape, own, part.masked, part.initial, prototype, part.once_a_layer)

    def _layer_ends(self, prototype: str) -> list[int]:
        """The last slot of each layer in which a prototype runs, among the prototype's own slots."""
        counts = [
            len(places)
            for stack, (layers, places) in enumerate(self.stacks)
            if self.config.prototype_of(stack) == prototype
            for _ in range(layers)
        ]
        return [end - 1 for end in accumulate(counts)]

    @property
    def prototypes(self) -> dict[str, int]:
        """Slots of each prototype, by what the names of its tensors start with; empty where there is one."""
        slots: dict[str, int] = {}
        for stack, (layers, places) in enumerate(self.stacks):
            name = self.config.prototype_of(stack)
            slots[name] = slots.get(name, 0) + layers * len(places)
        return slots

    def place(self, slot: int) -> tuple[str, int]:
        """Which of :attr:`prototypes` runs at ``slot``, and at which of its own slots."""
        place = slot
        for prototype, slots in self.prototypes.items():
            if place < slots:
                return prototype, place
            place -= slots
        raise IndexError(f"slot {slot} of {self.slots}")

    @cached_property
    def tensors(self) -> tuple[TensorSpec, ...]:
        """All prototypes' tensors, one after the other."""
        return tuple(
            self._tensor(prototype, slots, part)
            for prototype, slots in self.prototypes.items()
            for part in self.parts
        )

    @cached_property
    def masked_tensors(self) -> tuple[TensorSpec, ...]:
        """Tensors that masks apply to."""
        return tuple(tensor for tensor in self.tensors if tensor.masked)

    def mask_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of a task's own packed masks (uint8): ``[slots, bytes]``, or ``[bytes]`` where all slots share one.

        Empty where a task masks nothing.
        """
        if not self.config.masked or self.config.masks == "only-layers":
            return {}
        return self.slot_masks() if self.config.masks == "layer" else self._single_masks()

    def layer_mask_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes ``[slots, bytes]`` of the packed masks that all tasks share (uint8); mostly empty."""
        return self.slot_masks() if self.config.masks in ("hybrid", "only-layers") else {}

    def language_mask_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes ``[bytes]`` of one language's packed masks (uint8); empty where there are no languages."""
        return self._single_masks() if self.config.languages else {}

    def slot_masks(self) -> dict[str, tuple[int, ...]]:
        """Shapes ``[slots, bytes]`` of one packed mask for each slot of each masked tensor (uint8)."""
        return {tensor.name: (tensor.slots, tensor.mask_bytes) for tensor in self.masked_tensors}

    def _single_masks(self) -> dict[str, tuple[int, ...]]:
        return {tensor.name: (tensor.mask_bytes,) for tensor in self.masked_tensors}

    def prototype_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes of what tasks share (float32), with a leading slot axis where slots do not; empty if unshared."""
        if self.config.sharing == "tasks":
            return self._slot_weights()
        return {tensor.name: tensor.shape for tensor in self.tensors} if self.config.masked else {}

    def weight_shapes(self) -> dict[str, tuple[int, ...]]:
        """Shapes ``[slots, *shape]`` of the float weights that an unshared task owns (float32)."""
        return self._slot_weights() if self.config.sharing in ("unshared", "sparse") else {}

    def _slot_weights(self) -> dict[str, tuple[int, ...]]:
        return {tensor.name: (tensor.slots, *tensor.shape) for tensor in self.tensors}


def layout_of(
    config: PrototypeConfig,
    hidden_size: int,
    layers: int,
    decoder_layers: int = 0,
    query_size: int | None = None,
    key_value_size: int | None = None,
    ffn_size: int | None = None,
) -> TaskLayout:
    """The tensors of ``config`` on one backbone.

    Args:
        config: the method.
        hidden_size: width of the backbone, ``h``.
        layers: of the backbone, or of an encoder-decoder's encoder.
        decoder_layers: of an encoder-decoder's decoder.
        query_size: width of all heads' queries together, ``q``; ``h`` if None.
        key_value_size: the same of keys and of values, ``v``; ``q`` if None.
        ffn_size: width of the FFN's inner values; None if layers differ in it.

    Raises:
        ConfigurationError: the method cannot be had on this backbone.
    """
    queries = query_size or hidden_size
    widths = Widths(hidden_size, queries, key_value_size or queries, ffn_size)
    return TaskLayout(config, hidden_size, layers, config.specification.tensors(config, widths), decoder_layers)
