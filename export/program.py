"""The model as a function of its task's tensors, in the form that the tracer needs.

A :class:`Program` has no state of a task: packed masks and heads come in as arguments, under the names they have
in the task pack. Two programs exist, since the exporter merges dimensions that it saw equal: one that runs a
whole batch for one task, and one in which every row has a task of its own.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from propetl.bits import unpacking_table
from propetl.bundle.pack import HEAD, LANGUAGE_MASK, MASK, WEIGHT
from propetl.export.layouts import ROW, TOKEN
from propetl.heads import logits_of
from propetl.masks import combined
from propetl.model import ProPETLModel
from propetl.problems import Where
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.layout import TensorSpec
from propetl.prototypes.prototype import parameter_key
from propetl.prototypes.spec import Combination


class Program(nn.Module):
    """``logits = program(inputs, task)`` for a batch of one task.

    ``inputs`` are the model's inputs by name, int64 ``[batch, seq]``; ``task`` the task's tensors by name.
    """

    def __init__(self, model: ProPETLModel, *, at: Where = ROW) -> None:
        """Over the backbone and the prototype of ``model``; ``at`` says whether logits are a row's or every token's."""
        super().__init__()
        self.model = model
        self.at = at
        self.prototype = nn.ParameterDict(
            {parameter_key(name): nn.Parameter(value.detach()) for name, value in model.prototype.tensors().items()}
        )
        self.register_buffer("table", torch.from_numpy(unpacking_table()))
        layers = model.shared_masks.layers
        for name, mask in ({} if layers is None else layers.masks()).items():
            self.register_buffer(_layer_key(name), mask.detach() > 0)

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> Tensor:
        """Logits ``[batch, labels]``, or ``[batch, seq, labels]``."""
        return self._logits(self._effective(task), inputs, task)

    def _logits(
        self, weights: EffectiveWeights | None, inputs: Mapping[str, Tensor], task: Mapping[str, Tensor]
    ) -> Tensor:
        states = self.model.token_states if self.at == TOKEN else self.model.pooled_state
        head = {name.removeprefix(HEAD): value for name, value in task.items() if name.startswith(HEAD)}
        return logits_of(states(weights, inputs), head, self.model.backbone.family.head_activation)

    def _effective(self, task: Mapping[str, Tensor], rows: bool = False) -> EffectiveWeights | None:
        layout = self.model.layout
        if not layout.tensors:
            return None
        if layout.config.sharing == "tasks":
            return EffectiveWeights({tensor.name: self._prototype(tensor.name) for tensor in layout.tensors})
        if not layout.config.masked:
            return EffectiveWeights({tensor.name: task[WEIGHT + tensor.name] for tensor in layout.tensors}, {}, rows)
        masked = {tensor.name: self._masked(tensor, task) for tensor in layout.masked_tensors}
        shared = {tensor.name: self._prototype(tensor.name) for tensor in layout.tensors if not tensor.masked}
        if layout.config.masks == "only-tasks":
            return EffectiveWeights({}, shared | masked, rows)
        return EffectiveWeights(masked, shared, rows and layout.config.masks != "only-layers")

    def _masked(self, tensor: TensorSpec, task: Mapping[str, Tensor]) -> Tensor:
        """What runs of one tensor: ``[..., slots, *shape]``, or ``[..., *shape]`` where all slots run the same."""
        config, weight = self.model.config, self._prototype(tensor.name)
        names = [prefix + tensor.name for prefix in (LANGUAGE_MASK, MASK)]
        masks = [self._unpacked(task[name], tensor.shape) for name in names if name in task]
        if config.masks in ("layer", "only-tasks"):
            return weight * masks[0]
        layer = self.get_buffer(_layer_key(tensor.name))  # [slots, *shape]
        if not masks:
            return torch.where(layer, weight, torch.zeros_like(weight))
        return _over_layers(config.combine, layer, weight, weight * combined(config.combine, masks))

    def _prototype(self, name: str) -> Tensor:
        value: Tensor = self.prototype[parameter_key(name)]
        return value

    def _unpacked(self, packed: Tensor, shape: tuple[int, ...]) -> Tensor:
        """Packed masks uint8 ``[..., bytes]`` to zeros and ones float32 ``[..., *shape]``."""
        entries = functional.embedding(packed.to(torch.int32), self.get_buffer("table")).flatten(-2)  # [..., bytes * 8]
        count = prod(shape)
        if entries.shape[-1] != count:
            entries = entries[..., :count]
        return entries.unflatten(-1, shape)  # type: ignore[no-any-return]  # torch leaves it untyped


class RowsProgram(Program):
    """``logits = program(inputs, task)``: every row has the tensors of its own task, with a leading axis of rows."""

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> Tensor:
        """Logits ``[batch, labels]`` or ``[batch, seq, labels]``; heads are as wide as the widest among the rows."""
        return self._logits(self._effective(task, rows=True), inputs, task)


class BareProgram(nn.Module):
    """Backbone and a linear head, no prototype: the yardstick of the benchmark."""

    def __init__(self, model: ProPETLModel, *, at: Where = ROW) -> None:
        """Over the backbone of ``model``; ``at`` says whether logits are a row's or every token's."""
        super().__init__()
        self.model = model
        self.at = at

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> Tensor:
        """Logits ``[batch, labels]`` or ``[batch, seq, labels]`` of the linear head in ``task``."""
        states = self.model.token_states if self.at == TOKEN else self.model.pooled_state
        head = {"weight": task[HEAD + "weight"], "bias": task[HEAD + "bias"]}
        return logits_of(states(None, inputs), head, "tanh")


def _over_layers(rule: Combination, layer: Tensor, weight: Tensor, masked: Tensor) -> Tensor:
    """Combines the layers' masks with the rest: one choice per entry, since a layer's mask is a constant.

    It is exactly ``weight * combined(rule, [layer, other])``, and computes with the slot axis only what differs there.

    Args:
        rule: how masks are combined.
        layer: bool ``[slots, *shape]``.
        weight: of the prototype ``[*shape]``.
        masked: ``weight * other`` for the other masks, ``[..., *shape]``.

    Returns:
        ``[..., slots, *shape]``.
    """
    kept = {"or": weight, "and": masked, "add": weight + masked}[rule]
    dropped = torch.zeros_like(masked) if rule == "and" else masked
    return torch.where(layer, _with_slots(kept, weight.dim()), _with_slots(dropped, weight.dim()))


def _with_slots(tensor: Tensor, dimensions: int) -> Tensor:
    """``[..., *shape]`` to ``[..., 1, *shape]``."""
    return tensor.unsqueeze(-1 - dimensions)


def _layer_key(name: str) -> str:
    return f"layer_mask_{parameter_key(name)}"
