"""Which tensors a method has, and their shapes: plain data, shared by training, export and the device."""

import re
from dataclasses import asdict, dataclass, field
from functools import cached_property
from math import inf, prod
from typing import Any, Literal, get_args

from propetl import fields
from propetl.bits import packed_length
from propetl.errors import ConfigurationError

Method = Literal["adapter", "lora", "prefix", "head", "full"]
Sharing = Literal["masked", "unshared", "sparse", "tasks"]
Scope = Literal["model", "stack"]
MaskKind = Literal["layer", "hybrid", "only-layers", "only-tasks"]
Combination = Literal["or", "and", "add"]
Site = Literal["attention", "ffn"]
Activation = Literal["relu", "gelu", "gelu_new", "tanh", "silu"]

STACKS = ("encoder", "decoder")
"""Stacks of layers of an encoder-decoder, in the order in which slots count."""

_LANGUAGE = re.compile(r"[a-z0-9][a-z0-9_-]{0,31}")


@dataclass(frozen=True)
class PrototypeConfig:
    """Hyper-parameters of one method; defaults follow the paper (sections 3.1 and 4.1).

    Attributes:
        method: what is attached to the backbone; ``head`` attaches nothing, ``full`` trains the backbone.
        sharing: ``masked`` shares one prototype and masks it; ``unshared`` gives every slot and task float
            weights of its own (the usual adapter, LoRA or prefix); ``sparse`` does so too, each under a mask;
            ``tasks`` gives every slot weights of its own, which all tasks share.
        scope: of one ``masked`` prototype: the whole ``model``, or a ``stack`` of layers, which gives encoder and
            decoder one each.
        masks: over a shared prototype. ``layer``: a mask per slot for every task. ``hybrid``: a mask per slot
            shared by all tasks, and a mask per task shared by all slots. ``only-layers`` and ``only-tasks``:
            one half of ``hybrid``.
        combine: how the masks of ``hybrid`` become one: ``or``, ``and``, or ``add``, which
            counts them.
        languages: of a ``hybrid`` prototype that also has a mask per language, shared by all slots and by the
            tasks that name the language. Empty, or every task names one of them.
        sparsity: share of prototype weights that a mask keeps (the paper's k), in (0, 1].
        bottleneck: width of the adapter.
        sites: where the adapter runs: after the FFN (Pfeiffer), or after attention and FFN (Houlsby).
        activation: between the adapter's two projections; ``gelu_new`` is GELU by tanh, as T5 has it.
        rank: rank of the LoRA pair.
        alpha: LoRA's numerator; the branch is scaled by ``alpha / rank``.
        targets: attention projections that get a LoRA pair.
        prefix_length: prefix vectors per layer.
        prefix_hidden: width of the MLP that makes the prefix while training.
    """

    method: Method = "adapter"
    sharing: Sharing = "masked"
    scope: Scope = "model"
    masks: MaskKind = "layer"
    combine: Combination = "or"
    languages: tuple[str, ...] = ()
    sparsity: float = 0.5
    bottleneck: int = 32
    sites: tuple[Site, ...] = ("ffn",)
    activation: Activation = "relu"
    rank: int = 32
    alpha: float = 48.0
    targets: tuple[str, ...] = ("query", "value")
    prefix_length: int = 64
    prefix_hidden: int = 512

    def __post_init__(self) -> None:
        _one_of("method", self.method, get_args(Method))
        _one_of("sharing", self.sharing, get_args(Sharing))
        _one_of("scope", self.scope, get_args(Scope))
        _one_of("masks", self.masks, get_args(MaskKind))
        _one_of("combine", self.combine, get_args(Combination))
        self._check_masks()
        _one_of("activation", self.activation, get_args(Activation))
        if not 0.0 < self.sparsity <= 1.0:
            raise ConfigurationError(f"sparsity is the share of weights kept and lies in (0, 1]; got {self.sparsity}")
        if not 0.0 < self.alpha < inf:
            raise ConfigurationError(f"alpha must be a positive number; got {self.alpha}")
        for key in ("bottleneck", "rank", "prefix_length", "prefix_hidden"):
            value = getattr(self, key)
            if not isinstance(value, int) or isinstance(value, bool) or value < 1:
                raise ConfigurationError(f"{key} must be a whole number of at least 1; got {value!r}")
        if self.sites not in (("ffn",), ("attention", "ffn")):
            raise ConfigurationError(f"sites is [ffn] or [attention, ffn]; got {fields.shown(list(self.sites))}")
        if not self.targets or not set(self.targets) <= {"query", "key", "value"}:
            raise ConfigurationError(f"targets are among query, key, value; got {fields.shown(list(self.targets))}")
        if len(set(self.targets)) < len(self.targets):
            raise ConfigurationError(f"targets: each once; got {', '.join(self.targets)[:100]}")

    def _check_masks(self) -> None:
        if self.masks != "layer" and not self.masked:
            raise ConfigurationError(f"masks: {self.masks} needs one prototype, so sharing: masked; got {self.sharing}")
        if self.scope != "model" and not self.masked:
            raise ConfigurationError(
                f"scope: {self.scope} is of a prototype, so sharing: masked; with {self.sharing} every layer has "
                "weights of its own"
            )
        if self.languages and self.masks != "hybrid":
            raise ConfigurationError(f"languages need masks: hybrid; got masks: {self.masks}")
        if not all(isinstance(name, str) and _LANGUAGE.fullmatch(name) for name in self.languages):
            raise ConfigurationError(
                "languages: 1-32 of a-z, 0-9, '_', '-' each, a letter or digit first; "
                f"got {fields.shown(list(self.languages))}"
            )
        if len(set(self.languages)) < len(self.languages):
            raise ConfigurationError(f"languages: each once; got {', '.join(self.languages)}")

    def check_language(self, task: str, language: str | None) -> None:
        """Refuses a task whose ``language`` this prototype has no mask for.

        Raises:
            ConfigurationError: it names none where there are some, or another.
        """
        if language in self.languages or (language is None and not self.languages):
            return
        known = ", ".join(self.languages) or "none"
        raise ConfigurationError(
            f"task {task!r}: its language is {language!r}, and the prototype has masks for: {known}; languages are "
            "settled when the prototype is trained (masks: hybrid, a language for every task)"
        )

    @property
    def masked(self) -> bool:
        """Whether a prototype runs under masks at its slots."""
        return self.sharing == "masked"

    def prototype_of(self, stack: int) -> str:
        """What the names of the tensors that run in a stack of layers start with: empty, or ``decoder.``, say."""
        return f"{STACKS[stack]}." if self.scope == "stack" else ""

    def places(self, attentions: int = 1) -> int:
        """Slots that one layer has: an adapter's sites, else its ``attentions``."""
        return len(self.sites) if self.method == "adapter" else attentions

    @property
    def lora_scale(self) -> float:
        """Factor on the LoRA branch."""
        return self.alpha / self.rank

    def to_json(self) -> dict[str, Any]:
        """As written in ``bundle.json``."""
        return {key: list(value) if isinstance(value, tuple) else value for key, value in asdict(self).items()}

    @classmethod
    def from_json(cls, value: Any) -> "PrototypeConfig":
        """Inverse of :meth:`to_json`.

        Raises:
            ConfigurationError: an unknown key, or values that do not go together.
            ValueError: a value of another kind.
        """
        known = cls.__dataclass_fields__
        if unknown := fields.entries(value, "prototype").keys() - known:
            raise ConfigurationError(f"prototype: unknown key {min(unknown)!r}; known: {', '.join(known)}")
        return cls(**{key: _value_from(key, item) for key, item in value.items()})


def _value_from(key: str, value: Any) -> Any:
    """The value of one key, of the kind that its default has."""
    default = PrototypeConfig.__dataclass_fields__[key].default
    if isinstance(default, tuple):
        return fields.texts(value, key)
    if isinstance(default, str):
        return fields.text(value, key)
    return fields.number(value, key) if isinstance(default, float) else fields.whole(value, key, 1)


def _one_of(key: str, value: str, allowed: tuple[str, ...]) -> None:
    if value not in allowed:
        raise ConfigurationError(f"{key} is one of {', '.join(allowed)}; got {fields.shown(value)}")


@dataclass(frozen=True)
class TensorSpec:
    """One tensor of a prototype, at one slot.

    Attributes:
        name: as in files and graphs, such as ``down.weight``, or ``decoder.down.weight`` of the decoder's prototype.
        shape: without the slot axis.
        slots: where its prototype runs.
        masked: whether masks apply to it; biases are shared as they are.
    """

    name: str
    shape: tuple[int, ...]
    slots: int
    masked: bool = True

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
        shapes: of the tensors of one prototype at one slot, in a fixed order.
        decoder_layers: layers of an encoder-decoder's decoder; 0 where there is one stack.
    """

    config: PrototypeConfig
    hidden_size: int
    layers: int
    shapes: dict[str, tuple[int, ...]] = field(default_factory=dict)
    decoder_layers: int = 0

    def __post_init__(self) -> None:
        if self.config.scope == "stack" and not self.decoder_layers:
            raise ConfigurationError(
                "scope: stack gives encoder and decoder a prototype each; this backbone has one stack of layers: "
                "leave scope out"
            )

    @property
    def stacks(self) -> tuple[tuple[int, int], ...]:
        """(layers, slots of one layer) of each stack of layers, the encoder first; its decoder attends twice."""
        decoder = ((self.decoder_layers, self.config.places(attentions=2)),) if self.decoder_layers else ()
        return ((self.layers, self.config.places()), *decoder)

    @property
    def slots(self) -> int:
        """Places where the prototype runs, counted stack by stack, layer by layer, place by place."""
        return sum(layers * places for layers, places in self.stacks)

    @property
    def prototypes(self) -> dict[str, int]:
        """Slots of each prototype, by what the names of its tensors start with; empty where there is one."""
        slots: dict[str, int] = {}
        for stack, (layers, places) in enumerate(self.stacks):
            name = self.config.prototype_of(stack)
            slots[name] = slots.get(name, 0) + layers * places
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
            TensorSpec(prototype + name, shape, slots, masked=not name.endswith(".bias"))
            for prototype, slots in self.prototypes.items()
            for name, shape in self.shapes.items()
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
