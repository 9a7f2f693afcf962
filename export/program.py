"""The model as a function of its task's tensors, in the form that the tracer needs.

A :class:`Program` has no state of a task: packed masks and heads come in as arguments, under the names they have
in the task pack. Two programs exist, since the exporter merges dimensions that it saw equal: one that runs a
whole batch for one task, and one in which every row picks its task from a bank.
"""

from collections.abc import Mapping
from math import prod

import torch
from torch import Tensor, nn
from torch.nn import functional

from propetl.bits import unpacking_table
from propetl.bundle.pack import HEAD, MASK, WEIGHT
from propetl.heads import logits_of
from propetl.model import ProPETLModel
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.prototype import parameter_key
from propetl.runtime.signatures import TASK_ID


class Program(nn.Module):
    """``logits = program(inputs, task)`` for a batch of one task.

    ``inputs`` are the model's inputs by name, int64 ``[batch, seq]``; ``task`` the task's tensors by name.
    """

    def __init__(self, model: ProPETLModel) -> None:
        """Over the backbone and the prototype of ``model``."""
        super().__init__()
        self.model = model
        self.prototype = nn.ParameterDict(
            {parameter_key(name): nn.Parameter(value.detach()) for name, value in model.prototype.tensors().items()}
        )
        self.register_buffer("table", torch.from_numpy(unpacking_table()))

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> Tensor:
        """Logits ``[batch, labels]``."""
        pooled = self.model.first_token(self._effective(task), inputs)
        return self._logits(pooled, task)

    def _logits(self, pooled: Tensor, task: Mapping[str, Tensor]) -> Tensor:
        head = {name.removeprefix(HEAD): value for name, value in task.items() if name.startswith(HEAD)}
        return logits_of(pooled, head, self.model.backbone.family.head_activation)

    def _effective(self, task: Mapping[str, Tensor], rows: bool = False) -> EffectiveWeights | None:
        layout = self.model.layout
        if not layout.tensors:
            return None
        if layout.config.sharing == "unshared":
            return EffectiveWeights({tensor.name: task[WEIGHT + tensor.name] for tensor in layout.tensors}, {}, rows)
        masked = {
            tensor.name: self._prototype(tensor.name) * self._unpacked(task[MASK + tensor.name], tensor.shape)
            for tensor in layout.masked_tensors
        }
        shared = {tensor.name: self._prototype(tensor.name) for tensor in layout.tensors if not tensor.masked}
        return EffectiveWeights(masked, shared, rows)

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


class BankProgram(Program):
    """``logits = program(inputs, bank)``: each row takes its masks and head from a bank of tasks.

    ``bank`` holds the task tensors with a leading task axis, and ``task_id`` int64 ``[batch]`` picks from it.
    """

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> Tensor:
        """Logits ``[batch, labels]``, as wide as the widest head of the bank."""
        chosen = {name: value.index_select(0, task[TASK_ID]) for name, value in task.items() if name != TASK_ID}
        pooled = self.model.first_token(self._effective(chosen, rows=True), inputs)
        return self._logits(pooled, chosen)


class BareProgram(nn.Module):
    """Backbone and a linear head, no prototype: the yardstick of the benchmark."""

    def __init__(self, model: ProPETLModel) -> None:
        """Over the backbone of ``model``."""
        super().__init__()
        self.model = model

    def forward(self, inputs: dict[str, Tensor], task: dict[str, Tensor]) -> Tensor:
        """Logits ``[batch, labels]`` of the linear head in ``task``."""
        pooled = self.model.first_token(None, inputs)
        head = {"weight": task[HEAD + "weight"], "bias": task[HEAD + "bias"]}
        return logits_of(pooled, head, "tanh")
