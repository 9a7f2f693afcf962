"""The part of a method that needs torch: how it hooks into one layer of a backbone, and which modules train."""

from collections.abc import Callable
from dataclasses import dataclass

from torch import nn
from transformers import PreTrainedModel

from propetl.families import Family, Stack
from propetl.prototypes.effective import EffectiveWeights
from propetl.prototypes.layout import TaskLayout
from propetl.prototypes.prototype import Prototype, TensorPrototype, drawn
from propetl.prototypes.spec import PrototypeConfig
from propetl.prototypes.task import OwnWeights, TaskPart

Current = Callable[[], EffectiveWeights | None]
"""Gives the weights of the task that runs now; None lets the backbone run bare."""


@dataclass(frozen=True)
class HookedLayer:
    """One layer of a backbone, and what a method has to know to hook into it.

    Attributes:
        module: the layer.
        family: of the backbone.
        stack: where things are in the layer.
        number: of the layer, among those in which its prototype runs.
        slots: its slots of the prototype, in the order of :meth:`propetl.prototypes.method.Method.places`.
        config: the method's hyper-parameters.
        current: called at every slot for the weights to use.
        merge: compute with merged matrices where the method can; only methods that are ``mergeable`` are asked to.
    """

    module: nn.Module
    family: Family
    stack: Stack
    number: int
    slots: range
    config: PrototypeConfig
    current: Current
    merge: bool = False


class MethodLayer:
    """The torch side of a method; this one attaches nothing."""

    def attach(self, layer: HookedLayer) -> None:
        """Registers hooks in one layer of a backbone.

        Raises:
            ConfigurationError: the method cannot run in this family.
        """

    def finish(self, model: PreTrainedModel, family: Family) -> None:
        """Called once, after all layers are hooked."""

    def new_prototype(self, layout: TaskLayout) -> Prototype:
        """What tasks share, freshly drawn from torch's generator; nothing in it where the method shares nothing."""
        initial = {tensor.name: tensor.initial for tensor in layout.tensors}
        return TensorPrototype({name: drawn(initial[name], size) for name, size in layout.prototype_shapes().items()})

    def new_weights(self, layout: TaskLayout) -> TaskPart:
        """Weights of a task's own, freshly drawn."""
        return OwnWeights(layout)

    def merged_size(self, layout: TaskLayout, family: Family) -> int:
        """Weights in the matrices that a folded task owns once the method is merged into them."""
        return 0
