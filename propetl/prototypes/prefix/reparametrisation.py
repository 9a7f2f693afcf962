"""Prefixes while they train: made by an MLP, of a prototype or of a task's own."""

from collections.abc import Mapping

import torch
from torch import Tensor, nn

from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.mask_set import SharedMaskSets
from propetl.prototypes.prototype import Prototype, parameter_key
from propetl.prototypes.task import TaskPart


class PrefixReparametrisation(nn.Module):
    """Makes prefixes from an embedding by a two-layer MLP while training; folded to a table afterwards.

    Source: Li and Liang, "Prefix-Tuning", ACL 2021, section 4.3.
    """

    def __init__(self, length: int, hidden: int, inner: int, slots: int = 1, columns: int | None = None) -> None:
        """``slots`` prefixes of ``length`` vectors of width ``columns`` (``2 * hidden``), through ``inner`` units."""
        super().__init__()
        self.slots = slots
        columns = columns or 2 * hidden
        self.embedding = nn.Parameter(torch.randn(length, hidden) * 0.02)
        self.enter = nn.Linear(hidden, inner)
        self.leave = nn.Linear(inner, slots * columns)

    def forward(self) -> Tensor:
        """``[P, columns]`` for one slot, else ``[slots, P, columns]``."""
        flat: Tensor = self.leave(torch.tanh(self.enter(self.embedding)))  # [P, slots * columns]
        if self.slots == 1:
            return flat
        return flat.view(flat.shape[0], self.slots, -1).transpose(0, 1)


class PrefixPrototype(Prototype):
    """Prefixes that are trained through reparametrisations: one for each prototype."""

    def __init__(self, layout: TaskLayout) -> None:
        """For the prefixes of ``layout``."""
        super().__init__()
        self.shapes = layout.prototype_shapes()
        self.reparametrisations = nn.ModuleDict(
            {parameter_key(name): _reparametrisation(layout, shape) for name, shape in self.shapes.items()}
        )

    def tensors(self) -> dict[str, Tensor]:
        """By name ``[P, 2 * width]``, or ``[slots, P, 2 * width]``."""
        return {name: self.reparametrisations[parameter_key(name)]().view(shape) for name, shape in self.shapes.items()}


def _reparametrisation(layout: TaskLayout, shape: tuple[int, ...]) -> PrefixReparametrisation:
    slots, (length, columns) = shape[0] if len(shape) == 3 else 1, shape[-2:]
    return PrefixReparametrisation(length, layout.hidden_size, layout.config.prefix_hidden, slots, columns)


class OwnPrefix(TaskPart):
    """An unshared prefix while it trains through its reparametrisation."""

    def __init__(self, layout: TaskLayout) -> None:
        """One prefix for each slot of ``layout``."""
        super().__init__()
        self.slots = layout.slots
        length, columns = layout.tensors[0].shape
        self.reparametrisation = PrefixReparametrisation(
            length, layout.hidden_size, layout.config.prefix_hidden, layout.slots, columns
        )

    def own_weights(self) -> dict[str, Tensor]:
        """``{"prefix": [slots, P, 2 * width]}``."""
        made = self.reparametrisation()
        return {"prefix": made.unsqueeze(0) if self.slots == 1 else made}

    def effective(self, prototype: Mapping[str, Tensor], shared: SharedMaskSets) -> EffectiveWeights:
        """The task's own prefixes; the prototype is empty."""
        return EffectiveWeights(self.own_weights())
